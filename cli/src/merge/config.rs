//! An image's config and what was asked for, merged as docker does it.

use rctr_storage::config::{ContainerConfig, Healthcheck};

use crate::request::{RunRequest, values};

/// What the container runs with.
pub(crate) fn merge(request: &RunRequest, image: &ContainerConfig) -> ContainerConfig {
    let mut config = request.config.clone();
    let own = |ours: &mut String, theirs: &String| {
        if ours.is_empty() {
            theirs.clone_into(ours);
        }
    };
    config.image.clone_from(&request.image);
    own(&mut config.user, &image.user);
    own(&mut config.working_dir, &image.working_dir);
    own(&mut config.stop_signal, &image.stop_signal);
    config.env = env(&request.env, &image.env);
    config.labels.clone_from(&image.labels);
    config.labels.extend(values::pairs(&request.labels));
    let exposed = image.exposed_ports.iter().map(|(k, v)| (k.clone(), *v));
    config.exposed_ports.extend(exposed);
    let volumes = image.volumes.iter().map(|(k, v)| (k.clone(), *v));
    config.volumes.extend(volumes);
    config.shell.clone_from(&image.shell);
    config.healthcheck = health(
        request.config.healthcheck.as_ref(),
        image.healthcheck.as_ref(),
    );

    let given = Some(request.command.clone()).filter(|words| !words.is_empty());
    match &request.entrypoint {
        None => {
            config.entrypoint.clone_from(&image.entrypoint);
            config.cmd = given.or_else(|| image.cmd.clone());
        }
        // A given entrypoint drops the image's CMD.
        Some(words) => {
            config.entrypoint = Some(words.clone()).filter(|words| !words.is_empty());
            config.cmd = given;
        }
    }
    config
}

/// What was asked for first, then the image's other variables.
fn env(ours: &[String], theirs: &[String]) -> Vec<String> {
    let name = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
    let mut env = ours.to_vec();
    for entry in theirs {
        if !ours.iter().any(|o| name(o) == name(entry)) {
            env.push(entry.clone());
        }
    }
    env
}

/// Each part that isn't given is the image's.
fn health(ours: Option<&Healthcheck>, theirs: Option<&Healthcheck>) -> Option<Healthcheck> {
    let (ours, theirs) = match (ours, theirs) {
        (Some(ours), Some(theirs)) => (ours, theirs),
        (ours, theirs) => return ours.or(theirs).cloned(),
    };
    let or = |a: i64, b: i64| if a == 0 { b } else { a };
    Some(Healthcheck {
        test: if ours.test.is_empty() {
            theirs.test.clone()
        } else {
            ours.test.clone()
        },
        interval: or(ours.interval, theirs.interval),
        timeout: or(ours.timeout, theirs.timeout),
        start_period: or(ours.start_period, theirs.start_period),
        start_interval: or(ours.start_interval, theirs.start_interval),
        retries: or(ours.retries, theirs.retries),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn image() -> ContainerConfig {
        ContainerConfig {
            entrypoint: Some(words("/bin/echo ep")),
            cmd: Some(words("cmd default")),
            env: words("PATH=/bin A=image"),
            user: "usr".to_owned(),
            working_dir: "/one".to_owned(),
            stop_signal: "SIGUSR1".to_owned(),
            ..ContainerConfig::default()
        }
    }

    /// (entrypoint flag, words after the image) to the words that run.
    #[test]
    fn entrypoint_and_command() {
        for (entrypoint, command, runs) in [
            (None, "", "/bin/echo ep cmd default"),
            (None, "other", "/bin/echo ep other"),
            (Some("/bin/cat"), "", "/bin/cat"),
            (Some("/bin/cat"), "z", "/bin/cat z"),
            (Some(""), "x", "x"),
            (Some(""), "", ""),
        ] {
            let request = RunRequest {
                entrypoint: entrypoint.map(words),
                command: words(command),
                ..RunRequest::default()
            };
            let got = merge(&request, &image());
            let all: Vec<String> = got
                .entrypoint
                .into_iter()
                .chain(got.cmd)
                .flatten()
                .collect();
            assert_eq!(all.join(" "), runs, "{entrypoint:?} {command}");
        }
    }

    #[test]
    fn given_values_win() {
        let request = RunRequest {
            env: words("A=mine B=2"),
            config: ContainerConfig {
                user: "0".to_owned(),
                ..ContainerConfig::default()
            },
            ..RunRequest::default()
        };
        let got = merge(&request, &image());
        assert_eq!(got.env, ["A=mine", "B=2", "PATH=/bin"]);
        assert_eq!(
            (
                got.user.as_str(),
                got.working_dir.as_str(),
                got.stop_signal.as_str()
            ),
            ("0", "/one", "SIGUSR1")
        );
    }

    #[test]
    fn health_options_change_the_image_s_check() {
        let image = Healthcheck {
            test: words("CMD-SHELL x"),
            interval: 5,
            retries: 2,
            ..Healthcheck::default()
        };
        let ours = Healthcheck {
            interval: 9,
            ..Healthcheck::default()
        };
        let got = health(Some(&ours), Some(&image)).unwrap();
        assert_eq!((got.test.len(), got.interval, got.retries), (2, 9, 2));
        assert_eq!(health(None, Some(&image)), Some(image));
    }
}
