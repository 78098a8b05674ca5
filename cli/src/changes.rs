//! `-c` of `commit` and `import`: Dockerfile instructions that change an image's config.

use rctr_storage::config::{ContainerConfig, Healthcheck};

use crate::report::Failure;
use crate::request::values::{self, parse_duration, set_env};
use rctr_runtime::signals;

use crate::request;

const ALLOWED: &str =
    "CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME, WORKDIR";

/// Applies the instructions in order.
///
/// # Errors
/// An instruction that isn't allowed here, or is malformed.
pub(crate) fn apply(config: &mut ContainerConfig, changes: &[String]) -> Result<(), Failure> {
    let mut changer = Changer {
        config,
        cmd_set: false,
    };
    for change in changes {
        changer.instruction(change).map_err(|why| {
            Failure::new(format!("invalid change {change:?}: {why}"))
                .hint(format!("--change takes {ALLOWED}"))
        })?;
    }
    Ok(())
}

struct Changer<'a> {
    config: &'a mut ContainerConfig,
    /// An ENTRYPOINT resets CMD, unless a change set it before.
    cmd_set: bool,
}

impl Changer<'_> {
    fn instruction(&mut self, line: &str) -> Result<(), String> {
        let line = line.trim();
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = rest.trim();
        let word = word.to_ascii_uppercase();
        if rest.is_empty() && !matches!(word.as_str(), "CMD" | "ENTRYPOINT") {
            return Err(format!("{word} requires at least one argument"));
        }
        let config = &mut *self.config;
        match word.as_str() {
            "CMD" => {
                config.cmd = Some(command(config, rest));
                self.cmd_set = true;
            }
            "ENTRYPOINT" => {
                config.entrypoint = Some(command(config, rest)).filter(|words| !words.is_empty());
                if !self.cmd_set {
                    config.cmd = None;
                }
            }
            "ENV" => {
                for (name, value) in assignments(rest, &config.env)? {
                    set_env(&mut config.env, format!("{name}={value}"));
                }
            }
            "LABEL" => {
                for (name, value) in assignments(rest, &config.env)? {
                    config.labels.insert(name, value);
                }
            }
            "EXPOSE" => {
                for word in words(rest, &config.env)? {
                    values::expose(config, &word)?;
                }
            }
            "USER" => config.user = single(rest, &config.env)?,
            "WORKDIR" => {
                let path = single(rest, &config.env)?;
                let base = &config.working_dir;
                config.working_dir = request::mounts::clean(&if path.starts_with('/') {
                    path
                } else {
                    format!("{base}/{path}")
                });
            }
            "VOLUME" => {
                let paths = match json(rest) {
                    Some(paths) => paths,
                    None => words(rest, &config.env)?,
                };
                for path in paths {
                    if !path.starts_with('/') {
                        return Err(format!("volume path {path:?} is not absolute"));
                    }
                    config.volumes.insert(path, Default::default());
                }
            }
            "STOPSIGNAL" => {
                let signal = single(rest, &config.env)?;
                if signals::parse(&signal).is_none() {
                    return Err(format!("invalid signal: {signal}"));
                }
                config.stop_signal = signal;
            }
            "HEALTHCHECK" => config.healthcheck = Some(healthcheck(rest)?),
            "ONBUILD" => config.on_build.push(rest.to_owned()),
            _ => return Err(format!("{word} is not a valid change command")),
        }
        Ok(())
    }
}

/// A JSON list of strings, if it is one.
fn json(text: &str) -> Option<Vec<String>> {
    text.starts_with('[')
        .then(|| serde_json::from_str(text).ok())
        .flatten()
}

/// The exec form, or the shell form in the image's shell.
fn command(config: &ContainerConfig, text: &str) -> Vec<String> {
    if let Some(words) = json(text) {
        return words;
    }
    if text.is_empty() {
        return Vec::new();
    }
    let mut words = config
        .shell
        .clone()
        .unwrap_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned()]);
    words.push(text.to_owned());
    words
}

/// `--interval=1s … CMD line`, `CMD ["a"]`, `NONE`.
fn healthcheck(text: &str) -> Result<Healthcheck, String> {
    let mut check = Healthcheck::default();
    let mut rest = text;
    while let Some(option) = rest.strip_prefix("--") {
        let (option, tail) = option
            .split_once(char::is_whitespace)
            .ok_or("HEALTHCHECK requires CMD or NONE")?;
        let (name, value) = option
            .split_once('=')
            .ok_or_else(|| format!("want --{option}=VALUE"))?;
        let time = || {
            let nanos = parse_duration(value)?;
            if nanos < 1_000_000 {
                return Err(format!("--{name} cannot be less than 1ms"));
            }
            Ok(nanos)
        };
        match name {
            "interval" => check.interval = time()?,
            "timeout" => check.timeout = time()?,
            "start-period" => check.start_period = time()?,
            "start-interval" => check.start_interval = time()?,
            "retries" => {
                check.retries =
                    value.parse().ok().filter(|n| *n >= 0).ok_or_else(|| {
                        format!("--retries must be a number from 0, not {value:?}")
                    })?;
            }
            _ => return Err(format!("unknown flag: {name}")),
        }
        rest = tail.trim_start();
    }
    let (kind, line) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let line = line.trim();
    check.test = match kind.to_ascii_uppercase().as_str() {
        "NONE" if line.is_empty() => vec!["NONE".to_owned()],
        "NONE" => return Err("HEALTHCHECK NONE takes no arguments".to_owned()),
        "CMD" if line.is_empty() => return Err("missing command after HEALTHCHECK CMD".to_owned()),
        "CMD" => match json(line) {
            Some(words) => std::iter::once("CMD".to_owned()).chain(words).collect(),
            None => vec!["CMD-SHELL".to_owned(), line.to_owned()],
        },
        other => return Err(format!("unknown type {other:?} in HEALTHCHECK (try CMD)")),
    };
    Ok(check)
}

/// `A=1 B="two words"`, or the old form `NAME the whole rest`.
fn assignments(text: &str, env: &[String]) -> Result<Vec<(String, String)>, String> {
    let first = text.split_whitespace().next().unwrap_or_default();
    if !first.contains('=') {
        let (name, value) = text
            .split_once(char::is_whitespace)
            .ok_or_else(|| format!("{text:?} must have two arguments, or the form NAME=value"))?;
        return Ok(vec![(name.to_owned(), single(value.trim(), env)?)]);
    }
    words(text, env)?
        .into_iter()
        .map(|word| match word.split_once('=') {
            Some(("", _)) => Err("a name can not be blank".to_owned()),
            Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
            None => Err(format!("can't find = in {word:?}")),
        })
        .collect()
}

/// One value that may hold blanks.
fn single(text: &str, env: &[String]) -> Result<String, String> {
    Ok(words(text, env)?.join(" "))
}

/// Splits at blanks; quotes and backslashes are taken away, variables of `env` put in (not within `'…'`).
fn words(text: &str, env: &[String]) -> Result<Vec<String>, String> {
    let mut out = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\'' | '"', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, Some(q)) if c == q => quote = None,
            ('\\', None | Some('"')) => {
                if let Some(next) = chars.next() {
                    let word = word.get_or_insert_default();
                    if quote.is_some() && !matches!(next, '"' | '$' | '\\') {
                        word.push('\\');
                    }
                    word.push(next);
                }
            }
            ('$', None | Some('"')) => {
                let value = variable(&mut chars, env)?;
                word.get_or_insert_default().push_str(&value);
            }
            (c, None) if c.is_whitespace() => out.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err("unexpected end of statement while looking for matching quote".to_owned());
    }
    out.extend(word);
    Ok(out)
}

/// What follows a `$`: `NAME`, `{NAME}`, `{NAME:-word}`, `{NAME:+word}`.
fn variable(
    chars: &mut std::iter::Peekable<std::str::Chars<'_>>,
    env: &[String],
) -> Result<String, String> {
    let lookup = |name: &str| {
        env.iter()
            .filter_map(|e| e.split_once('='))
            .find(|(n, _)| *n == name)
            .map(|(_, v)| v.to_owned())
    };
    let mut name = String::new();
    if chars.peek() != Some(&'{') {
        while let Some(c) = chars.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
            name.push(c);
        }
        if name.is_empty() {
            return Ok("$".to_owned());
        }
        return Ok(lookup(&name).unwrap_or_default());
    }
    chars.next();
    loop {
        match chars.next() {
            Some('}') => break,
            Some(c) => name.push(c),
            None => return Err("unfinished ${".to_owned()),
        }
    }
    let set = |name: &str| lookup(name).filter(|v| !v.is_empty());
    Ok(if let Some((name, word)) = name.split_once(":-") {
        set(name).unwrap_or_else(|| word.to_owned())
    } else if let Some((name, word)) = name.split_once(":+") {
        set(name).map(|_| word.to_owned()).unwrap_or_default()
    } else {
        lookup(&name).unwrap_or_default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(changes: &[&str]) -> Result<ContainerConfig, Failure> {
        let mut config = ContainerConfig {
            env: vec!["PATH=/bin".to_owned(), "E=v".to_owned()],
            cmd: Some(vec!["old".to_owned()]),
            working_dir: "/base".to_owned(),
            ..ContainerConfig::default()
        };
        let changes: Vec<String> = changes.iter().map(|c| (*c).to_owned()).collect();
        apply(&mut config, &changes)?;
        Ok(config)
    }

    #[test]
    fn commands_have_two_forms() {
        let got = changed(&[r#"CMD ["cat","/three"]"#]).unwrap();
        assert_eq!(got.cmd.unwrap(), ["cat", "/three"]);
        let got = changed(&["cmd echo $ADDED"]).unwrap();
        assert_eq!(got.cmd.unwrap(), ["/bin/sh", "-c", "echo $ADDED"]);
        assert_eq!(changed(&["ENTRYPOINT [\"x\"]"]).unwrap().cmd, None);
        let both = changed(&["CMD a", "ENTRYPOINT [\"x\"]"]).unwrap();
        assert!(both.cmd.is_some());
    }

    #[test]
    fn env_and_label_forms() {
        let got = changed(&[
            "ENV A=1 B=\"two words\" P=$PATH:/x Q='$E' R=${N:-d}${E:+s} S=a\\ b",
            "ENV OLD old style $E",
            "LABEL a=b \"c d\"=e",
        ])
        .unwrap();
        assert_eq!(
            got.env,
            [
                "PATH=/bin",
                "E=v",
                "A=1",
                "B=two words",
                "P=/bin:/x",
                "Q=$E",
                "R=ds",
                "S=a b",
                "OLD=old style v"
            ]
        );
        assert_eq!(got.labels["c d"], "e");
    }

    #[test]
    fn the_other_instructions() {
        let got = changed(&[
            "EXPOSE 80 9000/udp",
            "USER me:us",
            "WORKDIR sub",
            "VOLUME [\"/a\", \"/b\"]",
            "VOLUME /c /d",
            "STOPSIGNAL SIGUSR1",
            "HEALTHCHECK --interval=5s --retries=2 CMD test -e /x",
            "ONBUILD RUN true",
        ])
        .unwrap();
        assert_eq!(got.exposed_ports.len(), 2);
        assert_eq!(
            (got.user.as_str(), got.working_dir.as_str()),
            ("me:us", "/base/sub")
        );
        assert_eq!(got.volumes.len(), 4);
        assert_eq!(got.stop_signal, "SIGUSR1");
        let check = got.healthcheck.unwrap();
        assert_eq!(check.test, ["CMD-SHELL", "test -e /x"]);
        assert_eq!((check.interval, check.retries), (5_000_000_000, 2));
        assert_eq!(got.on_build, ["RUN true"]);
    }

    #[test]
    fn what_is_no_change_is_refused() {
        for change in [
            "RUN true",
            "ENV",
            "ENV A",
            "EXPOSE x",
            "LABEL \"a",
            "STOPSIGNAL what",
            "HEALTHCHECK what",
            "HEALTHCHECK --interval=0s CMD x",
            "VOLUME rel",
            "",
        ] {
            assert!(changed(&[change]).is_err(), "{change}");
        }
    }
}
