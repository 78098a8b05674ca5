//! What a server wants to be shown: `WWW-Authenticate` (RFC 9110, 11.6.1).

use std::collections::BTreeMap;

use crate::web::{HeaderMap, header};

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// User and password with each request.
    Basic,
    /// A token, which `realm` gives (distribution's token authentication).
    Bearer {
        /// The token server's URL.
        realm: String,
        /// What the token server knows the registry as.
        service: Option<String>,
        /// `repository:library/x:pull`, perhaps several with spaces between.
        scopes: Vec<String>,
    },
}

impl Challenge {
    /// The best of those that an answer has: a token, else a password; `None`: nothing that we know.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let values = headers.get_all(header::WWW_AUTHENTICATE).iter();
        let all: Vec<_> = values
            .filter_map(|value| value.to_str().ok())
            .flat_map(parse)
            .collect();
        let bearer = all.iter().find_map(|(scheme, parameters)| {
            let realm = parameters.get("realm").filter(|_| scheme == "bearer")?;
            let scopes = parameters.get("scope").map_or("", String::as_str);
            Some(Self::Bearer {
                realm: realm.clone(),
                service: parameters.get("service").cloned(),
                scopes: scopes.split_whitespace().map(str::to_owned).collect(),
            })
        });
        let basic = || all.iter().any(|(scheme, _)| scheme == "basic");
        bearer.or_else(|| basic().then_some(Self::Basic))
    }
}

type Parameters = BTreeMap<String, String>;

/// Schemes, in lower case, with their parameters. What isn't of the grammar ends it.
fn parse(mut rest: &str) -> Vec<(String, Parameters)> {
    let mut found: Vec<(String, Parameters)> = Vec::new();
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find([' ', '\t', ',', '=']).unwrap_or(rest.len());
        let (word, behind) = rest.split_at(end);
        if word.is_empty() {
            return found;
        }
        let behind = behind.trim_start_matches([' ', '\t']);
        let Some(value) = behind.strip_prefix('=') else {
            found.push((word.to_lowercase(), Parameters::new()));
            rest = behind;
            continue;
        };
        let Some((value, after)) = parse_value(value.trim_start_matches([' ', '\t'])) else {
            return found;
        };
        if let Some((_, parameters)) = found.last_mut() {
            parameters.insert(word.to_lowercase(), value);
        }
        rest = after;
    }
}

/// A word or a quoted string, and what is behind it.
fn parse_value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([' ', '\t', ',']).unwrap_or(text.len());
        return Some((text[..end].to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(chars.next()?.1),
            _ => value.push(char),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[&str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::WWW_AUTHENTICATE, value.parse().unwrap());
        }
        Challenge::of(&headers)
    }

    fn bearer(realm: &str, service: Option<&str>, scopes: &[&str]) -> Option<Challenge> {
        Some(Challenge::Bearer {
            realm: realm.to_owned(),
            service: service.map(str::to_owned),
            scopes: scopes.iter().map(|&scope| scope.to_owned()).collect(),
        })
    }

    #[test]
    fn challenges_are_read() {
        let full = r#"Bearer realm="https://a/t?x=\"1\"",service="reg, istry",scope="repository:a/b:pull,push repository:c:pull""#;
        let scopes = ["repository:a/b:pull,push", "repository:c:pull"];
        assert_eq!(
            of(&[full]),
            bearer("https://a/t?x=\"1\"", Some("reg, istry"), &scopes)
        );
        assert_eq!(of(&["bearer realm = x"]), bearer("x", None, &[]));
        assert_eq!(of(&["Basic realm=\"x\""]), Some(Challenge::Basic));
        assert_eq!(of(&["basic"]), Some(Challenge::Basic));
        // A token is better, wherever it stands.
        assert_eq!(
            of(&["Basic realm=\"x\", Bearer realm=\"y\""]),
            bearer("y", None, &[])
        );
        assert_eq!(
            of(&["Basic realm=\"x\"", "Bearer realm=\"y\""]),
            bearer("y", None, &[])
        );
    }

    #[test]
    fn what_is_none_is_none() {
        for value in [
            "",
            "Negotiate",
            "Bearer",
            "Bearer realm=\"x",
            "Bearer service=\"x\"",
            "=",
            ",,,",
            "realm=x",
        ] {
            assert_eq!(of(&[value]), None, "{value}");
        }
        assert_eq!(of(&[]), None);
    }
}
