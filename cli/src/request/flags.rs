//! The flags of `run` and `create`: one table, from which clap's arguments and the help come.

use clap::{Arg, ArgAction, Command};

use super::values::parse_bool;

/// How a flag takes values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    /// `--flag`, `--flag=false`.
    Nothing,
    /// The last one counts.
    One,
    /// Each one counts.
    Many,
}

/// One flag.
pub(crate) struct Flag {
    /// Without dashes.
    pub(crate) long: &'static str,
    /// `\0`: none.
    pub(crate) short: char,
    /// How many values.
    pub(crate) takes: Takes,
    /// One line; empty: not shown.
    pub(crate) help: &'static str,
}

pub(crate) const fn flag(
    short: char,
    long: &'static str,
    takes: Takes,
    help: &'static str,
) -> Flag {
    Flag {
        long,
        short,
        takes,
        help,
    }
}

use Takes::{Many, Nothing, One};
/// No short form.
pub(crate) const NO: char = '\0';

/// Flags of `run` and `create`.
pub(crate) const CREATE: &[Flag] = &[
    // Identity and config.
    flag(NO, "name", One, "Name of the container"),
    flag('h', "hostname", One, "Host name inside"),
    flag(NO, "domainname", One, "NIS domain name inside"),
    flag(
        'e',
        "env",
        Many,
        "Set a variable: NAME=value, or NAME from the caller",
    ),
    flag(NO, "env-file", Many, "Read variables from a file"),
    flag(
        NO,
        "entrypoint",
        One,
        "Replace the image's ENTRYPOINT (and drop its CMD)",
    ),
    flag('u', "user", One, "Name or UID[:group or GID]"),
    flag(NO, "group-add", Many, "Another group to join"),
    flag('w', "workdir", One, "Working directory inside"),
    flag('l', "label", Many, "Set a label: NAME=value"),
    flag(NO, "label-file", Many, "Read labels from a file"),
    flag(
        NO,
        "annotation",
        Many,
        "Add an annotation for the OCI runtime",
    ),
    flag(NO, "cidfile", One, "Write the container's ID to this file"),
    flag(NO, "platform", One, "Platform, for example linux/amd64"),
    flag(
        NO,
        "pull",
        One,
        "Pull the image first: always, missing, newer, never",
    ),
    flag('q', "quiet", Nothing, "No progress of a pull"),
    flag(
        NO,
        "read-only",
        Nothing,
        "Mount the root file system read-only",
    ),
    flag(
        NO,
        "init",
        Nothing,
        "Run an init as process 1 that reaps and forwards signals",
    ),
    flag(NO, "stop-signal", One, "Signal that `stop` sends"),
    flag(
        NO,
        "stop-timeout",
        One,
        "Seconds that `stop` waits before it kills",
    ),
    flag(
        NO,
        "restart",
        One,
        "no, always, unless-stopped, on-failure[:times]",
    ),
    flag(NO, "rm", Nothing, "Remove the container when it ends"),
    flag(
        NO,
        "no-healthcheck",
        Nothing,
        "Switch the image's HEALTHCHECK off",
    ),
    flag(NO, "health-cmd", One, "Command that checks health"),
    flag(
        NO,
        "health-interval",
        One,
        "Time between checks, for example 30s",
    ),
    flag(
        NO,
        "health-retries",
        One,
        "Failures in a row until unhealthy",
    ),
    flag(NO, "health-timeout", One, "Time that one check may take"),
    flag(
        NO,
        "health-start-period",
        One,
        "Time for the start-up, in which failures don't count",
    ),
    flag(
        NO,
        "health-start-interval",
        One,
        "Time between checks in the start period",
    ),
    // Terminal.
    flag('a', "attach", Many, "Attach stdin, stdout or stderr"),
    flag('i', "interactive", Nothing, "Keep stdin open"),
    flag('t', "tty", Nothing, "Allocate a terminal"),
    // Isolation.
    flag(
        NO,
        "privileged",
        Nothing,
        "All capabilities and devices of the user namespace",
    ),
    flag(NO, "cap-add", Many, "Add a capability"),
    flag(NO, "cap-drop", Many, "Drop a capability"),
    flag(
        NO,
        "security-opt",
        Many,
        "seccomp=FILE|unconfined, no-new-privileges, systempaths=unconfined, mask=, unmask=",
    ),
    flag(NO, "userns", One, "User namespace"),
    flag(NO, "cgroupns", One, "cgroup namespace: private, host"),
    flag(NO, "cgroup-parent", One, "Parent cgroup"),
    flag(
        NO,
        "ipc",
        One,
        "IPC namespace: private, host, none, shareable, container:NAME",
    ),
    flag(NO, "pid", One, "PID namespace: host, container:NAME"),
    flag(NO, "uts", One, "UTS namespace: host"),
    flag(NO, "runtime", One, "Name of the OCI runtime"),
    flag(NO, "isolation", One, "Isolation technology: default"),
    flag(NO, "device", Many, "Add a host device: SRC[:DST[:rwm]]"),
    flag(
        NO,
        "device-cgroup-rule",
        Many,
        "Add a rule to the allowed devices",
    ),
    flag(NO, "gpus", One, "GPUs to add"),
    flag(
        NO,
        "sysctl",
        Many,
        "Set a namespaced kernel parameter: name=value",
    ),
    flag(NO, "ulimit", Many, "Resource limit: name=soft[:hard]"),
    flag(NO, "shm-size", One, "Size of /dev/shm"),
    flag(
        NO,
        "oom-kill-disable",
        Nothing,
        "Don't let the kernel kill for want of memory",
    ),
    flag(
        NO,
        "oom-score-adj",
        One,
        "Preference of the OOM killer, -1000 to 1000",
    ),
    // Network.
    flag(NO, "network", Many, "private, none, host or container:NAME"),
    flag(NO, "net", Many, ""),
    flag(NO, "network-alias", Many, ""),
    flag(NO, "net-alias", Many, ""),
    flag(NO, "add-host", Many, "Add a line to /etc/hosts: name:ip"),
    flag(NO, "dns", Many, "DNS server"),
    flag(NO, "dns-option", Many, "Option of the resolver"),
    flag(NO, "dns-opt", Many, ""),
    flag(NO, "dns-search", Many, "Search domain"),
    flag(
        'p',
        "publish",
        Many,
        "Publish a port: [[ip:]hostPort:]containerPort[/tcp|udp]",
    ),
    flag(
        'P',
        "publish-all",
        Nothing,
        "Publish all exposed ports to free ones",
    ),
    flag(NO, "expose", Many, "Expose a port or a range"),
    flag(NO, "ip", One, ""),
    flag(NO, "ip6", One, ""),
    flag(NO, "link", Many, ""),
    flag(NO, "link-local-ip", Many, ""),
    flag(NO, "mac-address", One, "MAC address"),
    // Storage and log.
    flag(
        'v',
        "volume",
        Many,
        "Mount a volume or a host path: [SRC:]DST[:opts]",
    ),
    flag(
        NO,
        "mount",
        Many,
        "Mount: type=bind|volume|tmpfs,src=…,dst=…[,readonly]",
    ),
    flag(NO, "tmpfs", Many, "Mount a tmpfs: PATH[:options]"),
    flag(
        NO,
        "volumes-from",
        Many,
        "Mount the volumes of another container: NAME[:ro]",
    ),
    flag(NO, "volume-driver", One, "Volume driver: local"),
    flag(NO, "storage-opt", Many, "Option of the storage driver"),
    flag(NO, "log-driver", One, "json-file or none"),
    flag(
        NO,
        "log-opt",
        Many,
        "Option of the log driver: max-size=, max-file=",
    ),
    // Resources.
    flag('m', "memory", One, "Memory limit"),
    flag(NO, "memory-reservation", One, "Soft memory limit"),
    flag(
        NO,
        "memory-swap",
        One,
        "Memory and swap together; -1: unlimited",
    ),
    flag(NO, "memory-swappiness", One, "0 to 100"),
    flag(NO, "kernel-memory", One, ""),
    flag(NO, "cpus", One, "Number of CPUs, for example 1.5"),
    flag('c', "cpu-shares", One, "Relative weight"),
    flag(NO, "cpu-period", One, "CFS period in microseconds"),
    flag(NO, "cpu-quota", One, "CFS quota in microseconds"),
    flag(NO, "cpu-rt-period", One, "Real-time period in microseconds"),
    flag(
        NO,
        "cpu-rt-runtime",
        One,
        "Real-time run time in microseconds",
    ),
    flag(NO, "cpuset-cpus", One, "CPUs to run on: 0-3,7"),
    flag(NO, "cpuset-mems", One, "Memory nodes to use: 0-3,7"),
    flag(NO, "pids-limit", One, "Limit of processes; -1: unlimited"),
    flag(NO, "blkio-weight", One, "Relative weight, 10 to 1000"),
    flag(NO, "blkio-weight-device", Many, "Weight of a device"),
    flag(
        NO,
        "device-read-bps",
        Many,
        "Limit of bytes read a second: PATH:N",
    ),
    flag(
        NO,
        "device-read-iops",
        Many,
        "Limit of reads a second: PATH:N",
    ),
    flag(
        NO,
        "device-write-bps",
        Many,
        "Limit of bytes written a second: PATH:N",
    ),
    flag(
        NO,
        "device-write-iops",
        Many,
        "Limit of writes a second: PATH:N",
    ),
    // Windows only or deprecated: accepted.
    flag(NO, "cpu-count", One, ""),
    flag(NO, "cpu-percent", One, ""),
    flag(NO, "io-maxbandwidth", One, ""),
    flag(NO, "io-maxiops", One, ""),
    flag(NO, "disable-content-trust", Nothing, ""),
    flag(NO, "use-api-socket", Nothing, ""),
];

/// Flags that `run` has beyond those of `create`.
pub(crate) const RUN: &[Flag] = &[
    flag(
        'd',
        "detach",
        Nothing,
        "Print the ID and leave the container running",
    ),
    flag(
        NO,
        "sig-proxy",
        Nothing,
        "Pass signals on to the process (default true)",
    ),
    flag(
        NO,
        "detach-keys",
        One,
        "Key sequence that detaches (default ctrl-p,ctrl-q)",
    ),
];

/// The id of the positional words: image, command, arguments.
pub(crate) const WORDS: &str = "words";

/// Adds `flags` to `command`; the flags end at the first word that is none.
pub(crate) fn add(command: Command, tables: &[&[Flag]], usage: &str) -> Command {
    let command = command
        .disable_help_flag(true)
        .args_override_self(true)
        .override_usage(usage.to_owned())
        .arg(
            Arg::new("help")
                .long("help")
                .action(ArgAction::Help)
                .help("Show this help"),
        );
    tables
        .iter()
        .flat_map(|table| table.iter())
        .fold(command, |command, flag| command.arg(arg(flag)))
        .arg(
            Arg::new(WORDS)
                .value_names(["IMAGE", "COMMAND"])
                .num_args(1..)
                .required(true)
                .trailing_var_arg(true),
        )
}

/// The flag as clap wants it.
pub(crate) fn arg(flag: &Flag) -> Arg {
    let arg = Arg::new(flag.long)
        .long(flag.long)
        .help(flag.help)
        .hide(flag.help.is_empty());
    let arg = if flag.short == NO {
        arg
    } else {
        arg.short(flag.short)
    };
    match flag.takes {
        Takes::Nothing => switch(arg),
        Takes::One => arg.allow_hyphen_values(true),
        Takes::Many => arg.allow_hyphen_values(true).action(ArgAction::Append),
    }
}

/// A flag that may be given as `--flag`, `--flag=true` or `--flag=false`.
pub(crate) fn switch(arg: Arg) -> Arg {
    arg.num_args(0..=1)
        .require_equals(true)
        .default_missing_value("true")
        .value_parser(parse_bool)
        .hide_possible_values(true)
}
