//! One table: template, what it gives. The oracle for the odd ones was Go itself.

use serde_json::json;

use super::{Data, Kind, Schema, Template};

const SCHEMA: Schema = Schema(&[
    ("State.Health", Kind::Pointer),
    ("State.Note", Kind::Text),
    ("Config.Labels", Kind::TextMap),
    ("Config.None", Kind::TextMap),
    ("Ports", Kind::ListMap),
    ("Networks", Kind::StructMap),
]);

fn data() -> Data {
    Data::typed(
        &json!({
            "Name": "/web", "N": 5, "F": 1.5, "Big": 1e30, "Yes": true, "No": false, "Empty": "", "Zero": 0,
            "State": {"Status": "running", "ExitCode": 3},
            "Config": {"Env": ["A=1", "B=2"], "Labels": {"b.c": "two", "a": "one"}, "Cmd": null, "None": null},
            "Mounts": [{"Type": "bind", "RW": true}, {"Type": "volume", "RW": false}],
            "Ports": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8005"}], "443/tcp": null},
            "Networks": {"bridge": {"IPAddress": "10.0.2.100"}},
            "Nested": [[1, 2], [3]],
            "Html": "<a & b>",
        }),
        &SCHEMA,
    )
}

fn render(source: &str) -> String {
    match Template::parse(source).and_then(|t| t.render(&data())) {
        Ok(text) => text,
        Err(error) => error.to_string(),
    }
}

#[test]
fn templates_give_what_go_gives() {
    for (source, want) in [
        ("", ""),
        ("plain }} text", "plain }} text"),
        ("{{.Name}}", "/web"),
        ("{{ .Name }}!", "/web!"),
        ("{{.State.Status}} {{.State.ExitCode}}", "running 3"),
        ("{{$.Name}}", "/web"),
        ("{{(.State).Status}}", "running"),
        (
            "{{5}} {{-3}} {{0x1F}} {{1_000}} {{1.5}} {{1e3}} {{'a'}}",
            "5 -3 31 1000 1.5 1000 97",
        ),
        ("{{true}} {{false}} {{.Yes}}", "true false true"),
        ("{{.F}} {{.Big}}", "1.5 1e+30"),
        (
            "{{999999.5}} {{1000000.0}} {{0.00001}}",
            "999999.5 1e+06 1e-05",
        ),
        ("{{017}} {{0}} {{0b101}}", "15 0 5"),
        (r#"{{title "don't"}}"#, "Don'T"),
        (
            r#"{{"a\tb\x41\u00e9\101"}} {{`raw\n`}}"#,
            "a\tbA\u{e9}A raw\\n",
        ),
        // Printing of composite values
        ("{{.Config.Env}}", "[A=1 B=2]"),
        ("{{.Config.Labels}}", "map[a:one b.c:two]"),
        ("{{.Config.Cmd}} {{.Config.None}}", "[] map[]"),
        ("{{.State.Health}}", "<nil>"),
        ("{{.Ports}}", "map[443/tcp:[] 80/tcp:[{0.0.0.0 8005}]]"),
        ("{{.Nested}}", "[[1 2] [3]]"),
        ("{{.Mounts}}", "[{bind true} {volume false}]"),
        (
            "{{.Config.Labels.a}} {{.Config.Labels.zz}}",
            "one <no value>",
        ),
        ("{{.Networks.nosuch.IPAddress}}", "<no value>"),
        ("{{.State.Note}}|", "|"),
        // index, len, slice
        (r#"{{index .Config.Labels "b.c"}}"#, "two"),
        (r#"[{{index .Config.Labels "zz"}}]"#, "[]"),
        (r#"[{{index .Config.None "zz"}}]"#, "[]"),
        ("{{index .Config.Env 1}}", "B=2"),
        ("{{index .Nested 0 1}}", "2"),
        (r#"{{(index (index .Ports "80/tcp") 0).HostPort}}"#, "8005"),
        (r#"{{(index .Ports "80/tcp" 0).HostPort}}"#, "8005"),
        ("{{(index .Mounts 1).Type}}", "volume"),
        (
            "{{len .Config.Env}} {{len .Name}} {{len .Config.Labels}} {{len .Config.Cmd}}",
            "2 4 2 0",
        ),
        (
            "{{slice .Name 1}} {{slice .Name 1 3}} {{slice .Config.Env 1}}",
            "web we [B=2]",
        ),
        // if, with
        ("{{if .Yes}}a{{else}}b{{end}}", "a"),
        ("{{if .Zero}}a{{else}}b{{end}}", "b"),
        ("{{if .Empty}}a{{else if .N}}c{{else}}d{{end}}", "c"),
        ("{{if .Empty}}a{{else if .Zero}}c{{else}}d{{end}}", "d"),
        (
            "{{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}}",
            "none",
        ),
        (
            "{{with .State}}{{.Status}} {{$.Name}}{{end}}",
            "running /web",
        ),
        ("{{with .Empty}}x{{else}}{{.Name}}{{end}}", "/web"),
        (
            "{{with .Empty}}x{{else with .State}}{{.Status}}{{end}}",
            "running",
        ),
        ("{{with $x := .N}}{{$x}}{{.}}{{end}}", "55"),
        // range
        ("{{range .Config.Env}}<{{.}}>{{end}}", "<A=1><B=2>"),
        (
            "{{range $i, $e := .Config.Env}}{{$i}}{{$e}} {{end}}",
            "0A=1 1B=2 ",
        ),
        ("{{range $e := .Config.Env}}{{$e}}{{end}}", "A=1B=2"),
        (
            "{{range $k, $v := .Config.Labels}}{{$k}}={{$v}};{{end}}",
            "a=one;b.c=two;",
        ),
        (
            "{{range $p, $c := .Ports}}{{$p}}->{{range $c}}{{.HostPort}}{{else}}none{{end}} {{end}}",
            "443/tcp->none 80/tcp->8005 ",
        ),
        ("{{range .Config.Cmd}}x{{else}}empty{{end}}", "empty"),
        ("{{range .Mounts}}{{if .RW}}{{.Type}}{{end}}{{end}}", "bind"),
        ("{{range 3}}{{.}}{{end}}", "012"),
        ("{{range .Config.Env}}{{.}}{{break}}{{end}}", "A=1"),
        (
            "{{range .Mounts}}{{if .RW}}{{continue}}{{end}}{{.Type}}{{end}}",
            "volume",
        ),
        // variables
        ("{{$x := .Name}}{{$x}}", "/web"),
        ("{{$x := 1}}{{if true}}{{$x = 2}}{{end}}{{$x}}", "2"),
        ("{{$x := 1}}{{if true}}{{$x := 2}}{{end}}{{$x}}", "1"),
        ("{{$s := .State}}{{$s.Status}}", "running"),
        // trim markers and comments
        ("a  {{- .N -}}  b", "a5b"),
        ("a \n {{- 3}} b", "a3 b"),
        ("a {{/* note */}} b", "a  b"),
        ("a {{- /* note */ -}} b", "ab"),
        ("{{-3}}", "-3"),
        ("{{ .N -}} \n x", "5x"),
        // pipelines and functions
        (r#"{{.Name | printf "%s!"}}"#, "/web!"),
        (r#"{{.Config.Env | len | printf "%03d"}}"#, "002"),
        (r#"{{join .Config.Env ", "}}"#, "A=1, B=2"),
        (r#"{{join .Config.Cmd ","}}|"#, "|"),
        (r#"{{range split "a,b" ","}}[{{.}}]{{end}}"#, "[a][b]"),
        (r#"{{split "a,b" ","}}"#, "[a b]"),
        (
            r#"{{upper "ab"}} {{lower "AB"}} {{title "ab cd"}}"#,
            "AB ab Ab Cd",
        ),
        (r#"[{{pad "x" 1 2}}] [{{pad "" 1 2}}]"#, "[ x  ] []"),
        (r#"{{truncate "abcdef" 3}} {{truncate "ab" 3}}"#, "abc ab"),
        (
            "{{json .Config}}",
            r#"{"Env":["A=1","B=2"],"Labels":{"a":"one","b.c":"two"},"Cmd":null,"None":null}"#,
        ),
        ("{{json .State}}", r#"{"Status":"running","ExitCode":3}"#),
        ("{{json .Html}} {{.Html}}", r#""<a & b>" <a & b>"#),
        ("{{.Config.Env | json}}", r#"["A=1","B=2"]"#),
        (r#"{{print "a" "b" 1 2 "c"}}"#, "ab1 2c"),
        (r#"{{println "a" 1}}"#, "a 1\n"),
        (
            r#"{{printf "%d %5d|%-5s|%5s|%q %v %t %%" 7 8 "ab" "cd" "e" .Config.Env true}}"#,
            "7     8|ab   |   cd|\"e\" [A=1 B=2] true %",
        ),
        (
            r#"{{printf "%.2f %x %X %c %.3s" 1.256 255 "hi" 65 "abcdef"}}"#,
            "1.26 ff 6869 A abc",
        ),
        (
            r#"{{printf "%d" "x"}} {{printf "%d"}} {{printf "a" 1}} {{printf "%"}}"#,
            "%!d(string=x) %!d(MISSING) a%!(EXTRA int=1) %!(NOVERB)",
        ),
        (
            r#"{{printf "%T %q %+d" 1 .Config.Env 5}}"#,
            r#"int ["A=1" "B=2"] +5"#,
        ),
        // comparisons and logic
        (
            r#"{{eq .Name "/web"}} {{eq .N 5}} {{eq .N 4 5}} {{ne .N 5}}"#,
            "true true true false",
        ),
        (
            "{{lt 1 2}} {{le 2 2}} {{gt 1 2}} {{ge 1 2}} {{lt 1 1.5}}",
            "true true false false true",
        ),
        (r#"{{lt "a" "b"}}"#, "true"),
        (
            "{{and .Yes .N}} {{and .Zero .N}} {{or .Empty .N}} {{or .Zero .Empty}}|",
            "5 0 5 |",
        ),
        ("{{and .No .Nosuch}} {{or .Yes .Nosuch}}", "false true"),
        ("{{not .Zero}} {{not .Yes}}", "true false"),
        (r#"{{if and (eq .N 5) (not .No)}}y{{end}}"#, "y"),
        (
            r#"{{if (index .Config.Labels "zz")}}y{{else}}n{{end}}"#,
            "n",
        ),
    ] {
        assert_eq!(render(source), want, "{source}");
    }
}

#[test]
fn errors_are_those_of_go() {
    for (source, want) in [
        (
            "{{.Foo}}",
            r#"template: :1:2: executing "" at <.Foo>: map has no entry for key "Foo""#,
        ),
        (
            "x\n {{ .State.Foo }}",
            r#"template: :2:10: executing "" at <.State.Foo>: map has no entry for key "Foo""#,
        ),
        (
            "{{.State.Health.Status}}",
            r#"template: :1:8: executing "" at <.State.Health.Status>: map has no entry for key "Health""#,
        ),
        (
            "{{.Name.Foo}}",
            r#"template: :1:7: executing "" at <.Name.Foo>: can't evaluate field Foo in type string"#,
        ),
        (
            "{{index .Config.Env 7}}",
            r#"template: :1:2: executing "" at <index .Config.Env 7>: error calling index: index out of range: 7"#,
        ),
        (
            r#"{{index .Ports "443/tcp" 0}}"#,
            r#"template: :1:2: executing "" at <index .Ports "443/tcp" 0>: error calling index: index out of range: 0"#,
        ),
        (
            "{{len .N}}",
            r#"template: :1:2: executing "" at <len .N>: error calling len: len of type int"#,
        ),
        (
            r#"{{eq .N "x"}}"#,
            r#"template: :1:2: executing "" at <eq .N "x">: error calling eq: incompatible types for comparison"#,
        ),
        (
            "{{range .N}}{{end}}{{range .Name}}{{end}}",
            r#"template: :1:27: executing "" at <.Name>: range can't iterate over /web"#,
        ),
        (
            "{{.Name 1}}",
            r#"template: :1:2: executing "" at <.Name>: Name is not a method but has arguments"#,
        ),
        (
            "{{nil}}",
            r#"template: :1:2: executing "" at <nil>: nil is not a command"#,
        ),
        (
            "{{upper}}",
            r#"template: :1:2: executing "" at <upper>: wrong number of args for upper: want 1 got 0"#,
        ),
        ("{{foo .N}}", r#"template: :1: function "foo" not defined"#),
        ("{{.Name", "template: :1: unclosed action"),
        ("a\n{{", "template: :2: unclosed action"),
        ("{{if .N}}", "template: :1: unexpected EOF"),
        ("{{end}}", "template: :1: unexpected {{end}}"),
        ("{{else}}", "template: :1: unexpected {{else}}"),
        ("{{}}", "template: :1: missing value for command"),
        ("{{if}}{{end}}", "template: :1: missing value for if"),
        ("{{.N | }}", "template: :1: missing value for command"),
        ("{{$x}}", r#"template: :1: undefined variable "$x""#),
        (
            "{{if 1}}{{$x := 1}}{{end}}{{$x}}",
            r#"template: :1: undefined variable "$x""#,
        ),
        (r#"{{"abc}}"#, "template: :1: unterminated quoted string"),
        (
            "{{.N | 5}}",
            "template: :1: non executable command in pipeline stage 2",
        ),
        ("{{.N}", r#"template: :1: unexpected "}" in operand"#),
        ("{{break}}", "template: :1: {{break}} outside {{range}}"),
        ("{{/* x }}", "template: :1: unclosed comment"),
        ("{{(.N}}", "template: :1: unclosed left paren"),
        ("{{12ab}}", r#"template: :1: bad number syntax: "12ab""#),
    ] {
        assert_eq!(render(source), want, "{source}");
    }
}

#[test]
fn an_error_shows_its_place() {
    let error = Template::parse("{{.Names}} {{foo}}").err().unwrap();
    assert_eq!(error.excerpt(), "{{.Names}} {{foo}}\n             ^");
}

#[test]
fn deep_nesting_is_refused() {
    let source = format!("{{{{{}1{}}}}}", "(".repeat(5000), ")".repeat(5000));
    assert!(Template::parse(&source).is_err());
    let source = "{{if 1}}".repeat(5000);
    assert!(Template::parse(&source).is_err());
}

#[test]
fn methods_take_one_string() {
    let row = Data::fields([(
        "Label",
        Data::Method(std::rc::Rc::new(|k: &str| format!("<{k}>"))),
    )]);
    let render = |s: &str| {
        Template::parse(s)
            .and_then(|t| t.render(&row))
            .map_err(|e| e.to_string())
    };
    assert_eq!(render(r#"{{.Label "a"}}"#), Ok("<a>".to_owned()));
    assert_eq!(render(r#"{{"a" | .Label}}"#), Ok("<a>".to_owned()));
    assert!(render("{{.Label}}").is_err());
    assert!(render("{{.Label 1}}").is_err());
}

#[test]
fn headers_ignore_functions() {
    let header = Data::fields([("Names", Data::text("NAMES"))]);
    let template = Template::parse_header("{{lower .Names}}\t{{truncate .Names 2}}").unwrap();
    assert_eq!(template.render(&header).unwrap(), "NAMES\tNAMES");
}

#[test]
fn what_is_mentioned_is_known() {
    let template = Template::parse("{{if .A}}{{with (lower .B)}}{{end}}{{end}}{{.C.D}}").unwrap();
    assert_eq!(
        ["A", "B", "C", "D"].map(|n| template.mentions(n)),
        [true, true, true, false]
    );
}

/// Whatever a user types, the answer is text or an error.
#[test]
fn no_input_panics() {
    const PIECES: [&str; 44] = [
        "{{",
        "}}",
        "{{-",
        "-}}",
        " ",
        "\n",
        ".",
        ".Name",
        ".State",
        "$",
        "$x",
        ":=",
        "=",
        "|",
        "(",
        ")",
        ",",
        "if",
        "else",
        "end",
        "range",
        "with",
        "index",
        "len",
        "slice",
        "printf",
        "json",
        "join",
        "\"%-5.2f é\"",
        "\"a\\",
        "`x`",
        "'é'",
        "1",
        "-2",
        "0x",
        "1e9",
        "nil",
        "true",
        "/*",
        "*/",
        "é",
        "break",
        "truncate",
        "\"%*d%",
    ];
    let data = data();
    let mut state = 1_u64;
    let mut next = |n: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % n
    };
    for round in 0..30_000 {
        // Half of them are at least one action.
        let mut source = if round % 2 == 0 { "{{" } else { "" }.to_owned();
        for _ in 0..next(12) {
            source.push_str(PIECES[next(PIECES.len())]);
            if next(3) > 0 {
                source.push(' ');
            }
        }
        source.push_str(if round % 2 == 0 { "}}" } else { "" });
        if let Ok(template) = Template::parse(&source) {
            drop(template.render(&data));
        }
    }
}
