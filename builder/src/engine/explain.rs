//! Why a step isn't in the cache: its inputs beside those that it had the last time.

use rctr_storage::cache::StepInput;

/// One sentence. `before`: the inputs of the step that stood at this place in the last build.
pub(super) fn why(before: Option<&[StepInput]>, now: &[StepInput]) -> String {
    let Some(before) = before else {
        return "this step was never built here".to_owned();
    };
    let find = |list: &[StepInput], what: &str| -> Option<String> {
        list.iter()
            .find(|i| i.what == what)
            .map(|i| i.value.clone())
    };
    let mut reasons = Vec::new();
    for input in now {
        match find(before, &input.what) {
            None => reasons.push(format!("{} is new", input.what)),
            Some(value) if value != input.value => {
                reasons.push(change(&input.what, &value, &input.value));
            }
            Some(_) => {}
        }
    }
    let gone = before.iter().filter(|old| find(now, &old.what).is_none());
    reasons.extend(gone.map(|old| format!("{} is gone", old.what)));
    match reasons.len() {
        0 => "its layer was removed from the cache".to_owned(),
        1..=4 => reasons.join("; "),
        more => format!("{}; and {} more changes", reasons[..3].join("; "), more - 3),
    }
}

fn change(what: &str, old: &str, new: &str) -> String {
    let short = |text: &str| text.len() <= 60 && !text.starts_with("sha256:");
    if short(old) && short(new) {
        format!("{what} was {old:?}, is {new:?}")
    } else {
        format!("{what} has changed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs(pairs: &[(&str, &str)]) -> Vec<StepInput> {
        let input = |(what, value): &(&str, &str)| StepInput {
            what: (*what).to_owned(),
            value: (*value).to_owned(),
        };
        pairs.iter().map(input).collect()
    }

    #[test]
    fn names_what_differs() {
        let before = inputs(&[
            ("variable A", "sha256:1"),
            ("the user", ""),
            ("file a", "x"),
        ]);
        let now = inputs(&[
            ("variable A", "sha256:2"),
            ("the user", "www"),
            ("file b", "x"),
        ]);
        assert_eq!(
            why(Some(&before), &now),
            "variable A has changed; the user was \"\", is \"www\"; file b is new; file a is gone"
        );
        assert_eq!(why(None, &now), "this step was never built here");
        assert_eq!(
            why(Some(&now), &now),
            "its layer was removed from the cache"
        );
    }
}
