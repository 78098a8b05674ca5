//! Values that look like secrets and would be baked into the image, where everybody who has it can read them.

use super::check::{Findings, looks_secret};
use crate::request::BakedSecrets;
use crate::source::Span;

/// Beginnings of keys and tokens whose issuers made them recognisable, and how many more characters they have at least.
const PREFIXES: &[(&str, usize, &str)] = &[
    ("ghp_", 30, "a GitHub token"),
    ("gho_", 30, "a GitHub token"),
    ("ghu_", 30, "a GitHub token"),
    ("ghs_", 30, "a GitHub token"),
    ("ghr_", 30, "a GitHub token"),
    ("github_pat_", 30, "a GitHub token"),
    ("glpat-", 16, "a GitLab token"),
    ("AKIA", 16, "an AWS access key"),
    ("ASIA", 16, "an AWS access key"),
    ("xoxb-", 20, "a Slack token"),
    ("xoxp-", 20, "a Slack token"),
    ("sk_live_", 16, "a Stripe key"),
    ("rk_live_", 16, "a Stripe key"),
    ("npm_", 30, "an npm token"),
    ("dckr_pat_", 20, "a Docker token"),
    ("hf_", 30, "a Hugging Face token"),
    ("AIza", 30, "a Google API key"),
];

/// What a value looks like, if it looks like a secret.
#[must_use]
pub fn kind(value: &str) -> Option<&'static str> {
    if value.contains("-----BEGIN ") && value.contains("PRIVATE KEY-----") {
        return Some("a private key");
    }
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let mut words = value.split(|c| !word(c));
    words.find_map(|word| {
        PREFIXES.iter().find_map(|(prefix, least, kind)| {
            let rest = word.strip_prefix(prefix)?;
            (rest.len() >= *least).then_some(*kind)
        })
    })
}

/// What is refused: one sentence that doesn't tell the value.
pub(super) const HINT: &str = "give secrets to the step that needs them: RUN --mount=type=secret,id=NAME, and build with --secret id=NAME,src=FILE";

/// Looks at the names and values that `instruction` (ENV, ARG, LABEL) bakes in.
///
/// # Errors
/// The sentence, if secrets are to be refused.
pub(super) fn examine<'v>(
    findings: &mut Findings,
    policy: BakedSecrets,
    instruction: &str,
    values: impl Iterator<Item = (&'v str, &'v str)>,
    span: Span,
) -> Result<(), String> {
    for (name, value) in values.filter(|(_, value)| !value.is_empty()) {
        let kind = kind(value);
        let named = instruction != "LABEL" && looks_secret(name);
        let what = match kind {
            Some(kind) => kind,
            None if named => "a secret",
            None => continue,
        };
        let message = format!(
            "{instruction} {name} holds what looks like {what}: it would be readable in the image"
        );
        match policy {
            BakedSecrets::Refuse => return Err(message),
            // A secret's name has been reported already.
            BakedSecrets::Warn if named => {}
            BakedSecrets::Warn => findings.report("BakedSecret", span, message),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_recognised_by_their_form() {
        let token = format!("ghp_{}", "a1B2".repeat(9));
        for value in [
            token.as_str(),
            &format!("https://user:{token}@github.com/a"),
            "AKIAIOSFODNN7EXAMPLE",
            "-----BEGIN RSA PRIVATE KEY-----\nMII",
        ] {
            assert!(kind(value).is_some(), "{value}");
        }
        for value in [
            "",
            "ghp_short",
            "AKIA",
            "npm_config_registry",
            "-----BEGIN CERTIFICATE-----",
            "/bin:/usr/bin",
        ] {
            assert!(kind(value).is_none(), "{value}");
        }
    }
}
