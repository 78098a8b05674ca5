//! Who a process runs as: `user`, `uid`, `user:group`, `uid:gid` or nothing, looked up in the image's own files.
//!
//! Pure: the texts of `/etc/passwd` and `/etc/group` come in (passwd(5), group(5); empty where they don't exist). The
//! rules are docker's: numbers need no entry, names do; without a group it is the user's own, and those that list the
//! user are added; an explicit group stands alone.

use rctr_storage::explain::Explain;

/// A process's identity inside the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// User ID.
    pub uid: u32,
    /// Group ID.
    pub gid: u32,
    /// Supplementary groups, each once, with `gid`.
    pub groups: Vec<u32>,
    /// For `HOME`; `/` without an entry.
    pub home: String,
}

/// Why a user can't be told.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// A name without an entry.
    #[error("unable to find user {name}: no matching entries in passwd file")]
    NoUser {
        /// As given.
        name: String,
    },
    /// A name without an entry.
    #[error("unable to find group {name}: no matching entries in group file")]
    NoGroup {
        /// As given.
        name: String,
    },
    /// A number beyond what docker takes.
    #[error("invalid user or group {number}: IDs must be in range 0-2147483647")]
    OutOfRange {
        /// As given.
        number: String,
    },
}

impl Explain for UserError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::NoUser { .. } => Some(
                "create the user in the image, or give a number, as in --user 1000:1000".to_owned(),
            ),
            Self::NoGroup { .. } => {
                Some("create the group in the image, or give its number".to_owned())
            }
            Self::OutOfRange { .. } => None,
        }
    }
}

/// Looks `spec` up, and the `additional` groups (`--group-add`, names or numbers).
///
/// # Errors
/// When a name has no entry, or a number is out of range.
pub fn resolve(
    spec: &str,
    additional: &[String],
    passwd: &str,
    group: &str,
) -> Result<User, UserError> {
    let (user, explicit_group) = spec.split_once(':').unwrap_or((spec, ""));
    let number = match user {
        "" => Some(0),
        _ => parse_id(user)?,
    };
    let entry = passwd_entries(passwd).find(|e| e.name == user || number == Some(e.uid));
    let mut found = match (&entry, number) {
        (Some(entry), _) => User {
            uid: entry.uid,
            gid: entry.gid,
            groups: Vec::new(),
            home: entry.home.to_owned(),
        },
        (None, Some(uid)) => User {
            uid,
            gid: 0,
            groups: Vec::new(),
            home: "/".to_owned(),
        },
        (None, None) => {
            return Err(UserError::NoUser {
                name: user.to_owned(),
            });
        }
    };
    if !explicit_group.is_empty() {
        found.gid = group_id(explicit_group, group)?;
    } else if let Some(entry) = entry {
        let of_user =
            group_entries(group).filter(|g| g.members.split(',').any(|m| m == entry.name));
        found.groups = of_user.map(|g| g.gid).collect();
    }
    for name in additional {
        found.groups.push(group_id(name, group)?);
    }
    // As docker since CVE-2022-36109: who is refused as one of the group can't come as another.
    found.groups.push(found.gid);
    found.groups.sort_unstable();
    found.groups.dedup();
    Ok(found)
}

/// The ID of a group by name or number.
fn group_id(word: &str, group: &str) -> Result<u32, UserError> {
    let number = parse_id(word)?;
    let entry = group_entries(group).find(|g| g.name == word || number == Some(g.gid));
    let id = entry.map(|g| g.gid).or(number);
    id.ok_or_else(|| UserError::NoGroup {
        name: word.to_owned(),
    })
}

/// A number, or none: a name.
fn parse_id(word: &str) -> Result<Option<u32>, UserError> {
    let digits = word.strip_prefix('-').unwrap_or(word);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(None);
    }
    match word.parse::<i32>() {
        Ok(id) if id >= 0 => Ok(Some(id.unsigned_abs())),
        _ => Err(UserError::OutOfRange {
            number: word.to_owned(),
        }),
    }
}

struct PasswdEntry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

/// `name:password:uid:gid:comment:home:shell`; lines that aren't are passed over.
fn passwd_entries(text: &str) -> impl Iterator<Item = PasswdEntry<'_>> {
    lines(text).filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        let home = fields.nth(1).filter(|home| !home.is_empty());
        Some(PasswdEntry {
            name,
            uid,
            gid,
            home: home.unwrap_or("/"),
        })
    })
}

struct GroupEntry<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

/// `name:password:gid:member,member`.
fn group_entries(text: &str) -> impl Iterator<Item = GroupEntry<'_>> {
    lines(text).filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let gid = fields.nth(1)?.parse().ok()?;
        let members = fields.next().unwrap_or_default();
        Some(GroupEntry { name, gid, members })
    })
}

/// Without comments and NIS lines; a nameless entry would match the empty user.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let lines = text.lines().map(str::trim);
    lines.filter(|line| !line.starts_with(['#', '+', '-', ':']))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\n# note\ndaemon:x:1:1:daemon:/usr/sbin:\n\
        broken line\nwww:x:33:33::/var/www:/bin/sh\n7:x:1000:1000:a number as name:/home/7:\nbare:x:50:51::\n\
        :x:5:5::/:\n+nis:x:9:9::/:";
    const GROUP: &str =
        "root:x:0:\nadm:x:4:www,syslog\naudio:x:29:www\nwww:x:33:\nstaff:x:50:root\n:x:0:";

    fn ids(spec: &str) -> (u32, u32, Vec<u32>, String) {
        let user = resolve(spec, &[], PASSWD, GROUP).unwrap();
        (user.uid, user.gid, user.groups, user.home)
    }

    fn error(spec: &str, groups: &[&str]) -> String {
        let groups: Vec<_> = groups.iter().map(|g| (*g).to_owned()).collect();
        resolve(spec, &groups, PASSWD, GROUP)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn names_and_numbers_are_looked_up() {
        assert_eq!(ids(""), (0, 0, vec![0, 50], "/root".to_owned()));
        assert_eq!(ids("root"), ids("0"));
        assert_eq!(ids("www"), (33, 33, vec![4, 29, 33], "/var/www".to_owned()));
        assert_eq!(ids("33"), ids("www"));
        assert_eq!(ids("bare"), (50, 51, vec![51], "/".to_owned()));
        assert_eq!(ids("4711"), (4711, 0, vec![0], "/".to_owned()));
        assert_eq!(ids("7").0, 1000, "a name that is a number");
    }

    #[test]
    fn an_explicit_group_stands_alone() {
        assert_eq!(ids("www:staff"), (33, 50, vec![50], "/var/www".to_owned()));
        assert_eq!(ids("www:12"), (33, 12, vec![12], "/var/www".to_owned()));
        assert_eq!(ids("4711:4712"), (4711, 4712, vec![4712], "/".to_owned()));
        assert_eq!(ids(":29"), (0, 29, vec![29], "/root".to_owned()));
        assert_eq!(ids("www:"), ids("www"));
    }

    #[test]
    fn additional_groups_are_added_once() {
        let more = ["audio", "4", "999"].map(str::to_owned);
        let user = resolve("www", &more, PASSWD, GROUP).unwrap();
        assert_eq!(user.groups, [4, 29, 33, 999]);
    }

    #[test]
    fn without_files_numbers_still_work() {
        let user = resolve("", &[], "", "").unwrap();
        assert_eq!((user.uid, user.gid, user.home.as_str()), (0, 0, "/"));
        assert!(resolve("12:13", &["14".to_owned()], "", "").is_ok());
        assert!(resolve("root", &[], "", "").is_err());
    }

    #[test]
    fn unknown_names_are_errors() {
        assert_eq!(
            error("nobody", &[]),
            "unable to find user nobody: no matching entries in passwd file"
        );
        assert_eq!(
            error("www:none", &[]),
            "unable to find group none: no matching entries in group file"
        );
        assert!(error("www", &["none"]).contains("unable to find group none"));
        assert!(error("2147483648", &[]).contains("in range 0-2147483647"));
        assert!(error("-1", &[]).contains("in range"));
        assert!(error("0:99999999999", &[]).contains("in range"));
        assert!(error("nis", &[]).contains("unable to find user"));
    }
}
