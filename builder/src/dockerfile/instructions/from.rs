//! FROM.

use super::super::Fault;
use super::super::ast::FromInstruction;
use super::super::words;
use super::Statement;

pub(super) fn parse(statement: &mut Statement) -> Result<FromInstruction, Fault> {
    let arguments = words::plain(statement.rest);
    let (image, name) = match arguments.as_slice() {
        [image] => (image, None),
        [image, word, name] if word.eq_ignore_ascii_case("as") => (image, Some(stage_name(name)?)),
        _ => {
            return Err(
                Fault::new("FROM requires either one or three arguments".to_owned())
                    .hint("write FROM IMAGE, or FROM IMAGE AS NAME"),
            );
        }
    };
    Ok(FromInstruction {
        image: image.clone(),
        name,
        platform: statement
            .flags
            .one("platform")?
            .filter(|value| !value.is_empty()),
    })
}

/// Lower case.
fn stage_name(written: &str) -> Result<String, Fault> {
    let name = written.to_lowercase();
    let first_is_letter = name.starts_with(|c: char| c.is_ascii_lowercase());
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
    if !first_is_letter || !name.chars().all(allowed) {
        return Err(Fault::new(format!(
            "invalid name for build stage: {written:?}, name can't start with a number or contain symbols"
        )));
    }
    Ok(name)
}
