//! Names of signals.

/// Name without `SIG` and number; where the number differs between architectures it is libc's.
const NAMES: &[(&str, i32)] = &[
    ("HUP", libc::SIGHUP),
    ("INT", libc::SIGINT),
    ("QUIT", libc::SIGQUIT),
    ("ILL", libc::SIGILL),
    ("TRAP", libc::SIGTRAP),
    ("ABRT", libc::SIGABRT),
    ("IOT", libc::SIGABRT),
    ("BUS", libc::SIGBUS),
    ("FPE", libc::SIGFPE),
    ("KILL", libc::SIGKILL),
    ("USR1", libc::SIGUSR1),
    ("SEGV", libc::SIGSEGV),
    ("USR2", libc::SIGUSR2),
    ("PIPE", libc::SIGPIPE),
    ("ALRM", libc::SIGALRM),
    ("TERM", libc::SIGTERM),
    ("STKFLT", libc::SIGSTKFLT),
    ("CHLD", libc::SIGCHLD),
    ("CLD", libc::SIGCHLD),
    ("CONT", libc::SIGCONT),
    ("STOP", libc::SIGSTOP),
    ("TSTP", libc::SIGTSTP),
    ("TTIN", libc::SIGTTIN),
    ("TTOU", libc::SIGTTOU),
    ("URG", libc::SIGURG),
    ("XCPU", libc::SIGXCPU),
    ("XFSZ", libc::SIGXFSZ),
    ("VTALRM", libc::SIGVTALRM),
    ("PROF", libc::SIGPROF),
    ("WINCH", libc::SIGWINCH),
    ("IO", libc::SIGIO),
    ("POLL", libc::SIGPOLL),
    ("PWR", libc::SIGPWR),
    ("SYS", libc::SIGSYS),
];

/// First and last real-time signal as glibc counts them.
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

/// The number of `SIGTERM`, `term`, `15`, `SIGRTMIN+3`.
#[must_use]
pub fn parse(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=RTMAX).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some((_, number)) = NAMES.iter().find(|(n, _)| *n == name) {
        return Some(*number);
    }
    let number = if let Some(rest) = name.strip_prefix("RTMIN") {
        RTMIN + offset(rest)?
    } else {
        RTMAX + offset(name.strip_prefix("RTMAX")?)?
    };
    (RTMIN..=RTMAX).contains(&number).then_some(number)
}

fn offset(text: &str) -> Option<i32> {
    if text.is_empty() {
        return Some(0);
    }
    if !text.starts_with(['+', '-']) {
        return None;
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_several_spellings() {
        for (text, number) in [
            ("15", Some(15)),
            ("TERM", Some(15)),
            ("sigterm", Some(15)),
            ("SIGUSR1", Some(10)),
            ("RTMIN", Some(34)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMAX-1", Some(63)),
            ("0", None),
            ("65", None),
            ("RTMIN-1", None),
            ("NOPE", None),
            ("", None),
        ] {
            assert_eq!(parse(text), number, "{text}");
        }
    }
}
