//! How Go's fmt prints values with `%v`.

use super::data::{Data, Kind};

/// Appends `value` as an action prints it.
pub(super) fn value(out: &mut String, value: &Data) {
    match value {
        Data::NoValue => out.push_str("<no value>"),
        other => nested(out, other, &mut |out, leaf| leaf_value(out, leaf)),
    }
}

/// Appends `value`, its leaves (anything but lists, maps, structs and nil) as `leaf` does.
pub(super) fn nested(out: &mut String, value: &Data, leaf: &mut dyn FnMut(&mut String, &Data)) {
    match value {
        Data::NoValue | Data::Nil(Kind::Pointer) | Data::Method(_) => out.push_str("<nil>"),
        Data::Nil(Kind::List) => out.push_str("[]"),
        Data::Nil(Kind::TextMap | Kind::ListMap | Kind::StructMap) => out.push_str("map[]"),
        Data::Nil(_) => {}
        Data::List(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(' ');
                }
                nested(out, item, leaf);
            }
            out.push(']');
        }
        Data::Map(entries, _) => {
            out.push_str("map[");
            for (i, (key, item)) in entries.iter().enumerate() {
                if i > 0 {
                    out.push(' ');
                }
                leaf(out, &Data::text(key));
                out.push(':');
                nested(out, item, leaf);
            }
            out.push(']');
        }
        Data::Struct(fields) => {
            out.push('{');
            for (i, field) in fields.iter().enumerate() {
                if i > 0 {
                    out.push(' ');
                }
                nested(out, &field.value, leaf);
            }
            out.push('}');
        }
        other => leaf(out, other),
    }
}

fn leaf_value(out: &mut String, leaf: &Data) {
    match leaf {
        Data::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
        Data::Int(n) => out.push_str(&n.to_string()),
        Data::Float(x) => out.push_str(&float(*x)),
        Data::Text(s) => out.push_str(s),
        _ => {}
    }
}

/// Go's `%v` of a float64: shortest digits, an exponent below 1e-4 and from 1e6 on.
pub(super) fn float(x: f64) -> String {
    if x == 0.0 || !x.is_finite() || (1e-4..1e6).contains(&x.abs()) {
        return match x {
            x if x.is_nan() => "NaN".to_owned(),
            f64::INFINITY => "+Inf".to_owned(),
            f64::NEG_INFINITY => "-Inf".to_owned(),
            x => x.to_string(),
        };
    }
    exponent(&format!("{x:e}"))
}

/// Rust's `1e-7` as Go's `1e-07`.
pub(super) fn exponent(text: &str) -> String {
    let (digits, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let (sign, number) = match exponent.strip_prefix('-') {
        Some(number) => ('-', number),
        None => ('+', exponent),
    };
    format!("{digits}e{sign}{number:0>2}")
}
