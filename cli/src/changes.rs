//! `-c` of `commit` and `import`: Dockerfile instructions that change an image's config.

use rctr_builder::plan::change::{self, ALLOWED, ChangeError};
use rctr_builder::plan::config::SetHere;
use rctr_storage::config::ContainerConfig;

use crate::report::Failure;

/// Applies the instructions in order.
///
/// # Errors
/// An instruction that isn't allowed here, or is malformed.
pub(crate) fn apply(config: &mut ContainerConfig, changes: &[String]) -> Result<(), Failure> {
    // An ENTRYPOINT resets CMD, unless a change set it before.
    let mut set = SetHere::default();
    for change in changes {
        change::apply(config, &mut set, change).map_err(|why| {
            let hint = match &why {
                ChangeError::Syntax(error) => error.hint.clone(),
                _ => None,
            };
            let hint = hint.unwrap_or_else(|| format!("--change takes {ALLOWED}"));
            Failure::new(format!("invalid change {change:?}: {why}")).hint(hint)
        })?;
    }
    Ok(())
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
            "HEALTHCHECK --interval=1us CMD x",
            "VOLUME rel",
            "ENV A=1\nENV B=1",
            "ENV A=1\nFROM x",
            "FROM x",
            "",
        ] {
            assert!(changed(&[change]).is_err(), "{change}");
        }
    }
}
