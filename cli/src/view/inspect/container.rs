//! A container's document.

use std::path::PathBuf;

use rctr_storage::container::Container;
use rctr_storage::record::{MountPoint, Status};
use serde_json::{Value, json};

use super::{config, host_config, network};
use crate::template::{Kind, Schema};
use crate::view::container_row::Sizes;

/// What its fields are.
pub(crate) const SCHEMA: Schema = Schema(&[
    ("State.Health", Kind::Pointer),
    ("SizeRw", Kind::Pointer),
    ("SizeRootFs", Kind::Pointer),
    ("GraphDriver.Data", Kind::TextMap),
    ("Mounts.Name", Kind::Text),
    ("Mounts.Driver", Kind::Text),
    ("HostConfig.LogConfig.Config", Kind::TextMap),
    ("HostConfig.PortBindings", Kind::ListMap),
    ("HostConfig.Tmpfs", Kind::TextMap),
    ("HostConfig.Sysctls", Kind::TextMap),
    ("HostConfig.StorageOpt", Kind::TextMap),
    ("HostConfig.Annotations", Kind::TextMap),
    ("HostConfig.Mounts", Kind::List),
    ("HostConfig.Init", Kind::Pointer),
    ("HostConfig.PidsLimit", Kind::Pointer),
    ("HostConfig.MemorySwappiness", Kind::Pointer),
    ("HostConfig.OomKillDisable", Kind::Pointer),
    ("Config.ExposedPorts", Kind::StructMap),
    ("Config.Volumes", Kind::StructMap),
    ("Config.Labels", Kind::TextMap),
    ("Config.Healthcheck", Kind::Pointer),
    ("Config.StopSignal", Kind::Text),
    ("Config.StopTimeout", Kind::Pointer),
    ("Config.Shell", Kind::List),
    ("NetworkSettings.Ports", Kind::ListMap),
    ("NetworkSettings.Networks", Kind::StructMap),
    ("NetworkSettings.Networks.*.IPAMConfig", Kind::Pointer),
    ("NetworkSettings.Networks.*.DriverOpts", Kind::TextMap),
]);

/// The document. `layers` are the directories that it stands on, top first; `sizes` are shown if given.
pub(crate) fn document(container: &Container, layers: &[PathBuf], sizes: Option<Sizes>) -> Value {
    let Container { record, state, dir } = container;
    let file = |name: &str| json!(dir.join(name));
    let mut out = json!({
        "Id": record.id,
        "Created": record.created,
        "Path": record.path,
        "Args": record.args,
        "State": status(container),
        "Image": record.image,
        "ResolvConfPath": file("resolv.conf"),
        "HostnamePath": file("hostname"),
        "HostsPath": file("hosts"),
        "LogPath": if record.host_config.log_config.driver == "none" {
            json!("")
        } else {
            json!(rctr_runtime::log::path(dir))
        },
        "Name": format!("/{}", record.name),
        "RestartCount": state.restart_count,
        "Driver": record.driver,
        "Platform": record.platform.split('/').next().unwrap_or_default(),
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": null,
        "HostConfig": host_config::document(&record.host_config),
        "GraphDriver": {
            "Data": {
                "LowerDir": super::joined(layers),
                "MergedDir": file("merged"),
                "UpperDir": file("upper"),
                "WorkDir": file("work"),
            },
            "Name": record.driver,
        },
    });
    if let Some(sizes) = sizes {
        out["SizeRw"] = json!(sizes.own);
        out["SizeRootFs"] = json!(sizes.own + sizes.image);
    }
    out["Mounts"] = record.mounts.iter().map(mount).collect();
    out["Config"] = config(&record.config);
    out["NetworkSettings"] = network::document(container);
    out
}

fn status(container: &Container) -> Value {
    let state = &container.state;
    let is = |status: Status| state.status == status;
    let up = is(Status::Running) || is(Status::Paused) || is(Status::Restarting);
    let mut out = json!({
        "Status": state.status.as_str(),
        "Running": up,
        "Paused": is(Status::Paused),
        "Restarting": is(Status::Restarting),
        "OOMKilled": state.oom_killed,
        "Dead": is(Status::Dead),
        "Pid": if up { state.pid } else { 0 },
        "ExitCode": state.exit_code,
        "Error": state.error,
        "StartedAt": state.started_at,
        "FinishedAt": state.finished_at,
    });
    if let Some(health) = &state.health {
        out["Health"] = json!(health);
    }
    out
}

fn mount(mount: &MountPoint) -> Value {
    let mut out = json!({"Type": mount.kind});
    if !mount.name.is_empty() {
        out["Name"] = json!(mount.name);
    }
    out["Source"] = json!(mount.source);
    out["Destination"] = json!(mount.destination);
    if !mount.driver.is_empty() {
        out["Driver"] = json!(mount.driver);
    }
    out["Mode"] = json!(mount.mode);
    out["RW"] = json!(mount.rw);
    let propagation = match mount.kind.as_str() {
        "bind" if mount.propagation.is_empty() => "rprivate",
        _ => &mount.propagation,
    };
    out["Propagation"] = json!(propagation);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::{Data, Template};
    use crate::view::container_row::tests::container;

    fn shown(format: &str) -> String {
        let mut container = container();
        container.record.mounts.push(MountPoint {
            kind: "volume".to_owned(),
            name: "data".to_owned(),
            source: "/v/data/_data".to_owned(),
            destination: "/data".to_owned(),
            driver: "local".to_owned(),
            rw: true,
            ..MountPoint::default()
        });
        let document = document(&container, &["/l/2/fs".into(), "/l/1/fs".into()], None);
        let data = Data::typed(&document, &SCHEMA);
        match Template::parse(format).and_then(|t| t.render(&data)) {
            Ok(text) => text,
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn what_scripts_ask_for() {
        for (format, want) in [
            (
                "{{.State.Status}} {{.State.Running}} {{.State.ExitCode}}",
                "running true 0",
            ),
            (
                "{{.Name}} {{.RestartCount}} {{.Config.Image}}",
                "/web 0 debian:12",
            ),
            (
                r#"{{(index (index .NetworkSettings.Ports "80/tcp") 0).HostPort}}"#,
                "8005",
            ),
            (
                "{{.NetworkSettings.Ports}}",
                "map[443/tcp:[] 80/tcp:[{0.0.0.0 8005}]]",
            ),
            (
                "{{range $p, $c := .NetworkSettings.Ports}}{{$p}} {{end}}",
                "443/tcp 80/tcp ",
            ),
            (
                "{{range .NetworkSettings.Networks}}<{{.IPAddress}}>{{end}}",
                "<>",
            ),
            (
                "{{range .Mounts}}{{.Type}}:{{.Name}}:{{.Destination}}{{end}}",
                "volume:data:/data",
            ),
            (
                "{{.Mounts}}",
                "[{volume data /v/data/_data /data local  true }]",
            ),
            (
                "{{.HostConfig.RestartPolicy.Name}} {{.HostConfig.NetworkMode}}",
                "no bridge",
            ),
            ("{{.HostConfig.RestartPolicy}}", "{no 0}"),
            (r#"{{index .Config.Labels "com.example.role"}}"#, "php"),
            ("{{.Config.Labels.nope}}", "<no value>"),
            (
                "{{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}}",
                "none",
            ),
            (
                "{{.State.Health.Status}}",
                "template: :1:8: executing \"\" at <.State.Health.Status>: map has no entry for key \"Health\"",
            ),
            (
                "{{json .Config.Cmd}} {{json .HostConfig.Binds}} {{json .Config.Labels}}",
                "null null {\"a\":\"1\",\"com.example.role\":\"php\"}",
            ),
            (
                "{{.Config.StopSignal}}|{{.HostConfig.PidsLimit}}|{{.HostConfig.Binds}}",
                "|<nil>|[]",
            ),
            ("{{.GraphDriver.Data.LowerDir}}", "/l/2/fs:/l/1/fs"),
            (
                "{{.Path}} {{join .Args \" \"}}",
                "sh -c sleep 300; echo done",
            ),
            ("{{len .HostConfig.MaskedPaths}}", "12"),
            ("{{.LogPath}} {{.HostsPath}}", "/store/log /store/hosts"),
        ] {
            assert_eq!(shown(format), want, "{format}");
        }
    }

    #[test]
    fn the_keys_are_docker_s() {
        let document = document(&container(), &[], None);
        let keys = |value: &Value| {
            value
                .as_object()
                .unwrap()
                .keys()
                .cloned()
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(
            keys(&document),
            "Id Created Path Args State Image ResolvConfPath HostnamePath HostsPath LogPath Name RestartCount Driver \
             Platform MountLabel ProcessLabel AppArmorProfile ExecIDs HostConfig GraphDriver Mounts Config NetworkSettings"
        );
        assert_eq!(
            keys(&document["Config"]),
            "Hostname Domainname User AttachStdin AttachStdout AttachStderr ExposedPorts Tty OpenStdin StdinOnce Env \
             Cmd Image Volumes WorkingDir Entrypoint OnBuild Labels"
        );
        assert!(document["HostConfig"].as_object().unwrap().len() >= 62);
    }
}
