//! Random layers: tar to layer to tar.

use super::*;

#[test]
fn random_layers_survive_the_way_there_and_back() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let rounds = 40;
    for round in 0..rounds {
        let scratch = Scratch::new();
        let store = store(&scratch);
        let bytes = tar(&random.layer());
        let layer = add(&store, &bytes).unwrap_or_else(|error| panic!("round {round}: {error:?}"));
        let mut first = Vec::new();
        diff::write_tar(&layer, &mut first).unwrap();
        // The generator writes sorted, complete and canonical tars.
        assert!(first == bytes, "round {round}: other bytes");
        let copied = store.add_upper(&layer, KeepUpper::Copy, &[]).unwrap();
        assert_eq!(copied.digest, Digest::of(&bytes), "round {round}");
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }

    fn layer(&mut self) -> Vec<(Entry, Vec<u8>)> {
        let mut out = Vec::new();
        self.directory("", 0, &mut out);
        out
    }

    fn directory(&mut self, prefix: &str, depth: u64, out: &mut Vec<(Entry, Vec<u8>)>) {
        let mut names: Vec<String> = (0..self.below(8)).map(|_| self.name()).collect();
        names.sort();
        names.dedup();
        for name in names {
            let path = format!("{prefix}{name}");
            match self.below(10) {
                0..3 if depth < 5 => {
                    let mut dir = other(&format!("{path}/"), Kind::Directory, "");
                    self.attributes(&mut dir.0);
                    let opaque = self.below(4) == 0;
                    out.push(dir);
                    if opaque {
                        out.push(self.mark(&format!("{path}/.wh..wh..opq")));
                    }
                    // Whiteouts are void in opaque directories, so none are made there.
                    self.directory(&format!("{path}/"), depth + if opaque { 9 } else { 1 }, out);
                }
                3 if depth < 6 => out.push(self.mark(&format!("{prefix}.wh.{name}"))),
                4 => {
                    let target = self.name().repeat(self.below(12) as usize + 1);
                    let mut link = other(&path, Kind::Symlink, &target);
                    link.0.mode = 0o777;
                    out.push(link);
                }
                5 => {
                    let mut device = other(&path, Kind::BlockDevice, "");
                    device.0.device = (self.below(4096) as u32, self.below(1 << 20) as u32);
                    self.attributes(&mut device.0);
                    out.push(device);
                }
                6 => {
                    let mut fifo = other(&path, Kind::Fifo, "");
                    fifo.0.mode = self.below(0o10000) as u32;
                    out.push(fifo);
                }
                7 => {
                    let files: Vec<Entry> = (out.iter().map(|(entry, _)| entry))
                        .filter(|entry| entry.kind == Kind::File && !entry.path_is_mark())
                        .cloned()
                        .collect();
                    if files.is_empty() {
                        continue;
                    }
                    let target = &files[self.below(files.len() as u64) as usize];
                    // A hard link's header repeats what the file has, but for size and attributes.
                    let mut link = target.clone();
                    link.kind = Kind::HardLink;
                    link.link = target.path.clone();
                    link.path = path.into_bytes();
                    link.size = 0;
                    link.xattrs.clear();
                    out.push((link, Vec::new()));
                }
                _ => {
                    let len = match self.below(4) {
                        0 => 0,
                        1 => self.below(200_000),
                        _ => self.below(2000),
                    };
                    let fill = self.below(3) as u8;
                    let content: Vec<u8> = (0..len)
                        .map(|at| if fill == 0 { 0 } else { (at % 251) as u8 })
                        .collect();
                    let mut new = file(&path, &content);
                    self.attributes(&mut new.0);
                    out.push(new);
                }
            }
        }
    }

    fn mark(&mut self, path: &str) -> (Entry, Vec<u8>) {
        (Entry::new(path, Kind::File, 0o600), Vec::new())
    }

    fn attributes(&mut self, entry: &mut Entry) {
        entry.mode = 0o700 | self.below(0o10000) as u32;
        entry.mtime.seconds = match self.below(10) {
            0 => -(self.below(1 << 30) as i64),
            1 => 1 << 33,
            _ => self.below(1 << 31) as i64,
        };
        for at in 0..self.below(3) {
            let value = self.name().into_bytes();
            entry
                .xattrs
                .push((format!("user.x{at}").into_bytes(), value));
        }
    }

    fn name(&mut self) -> String {
        let parts = [
            "a",
            "B",
            "longer-name",
            "ü",
            " ",
            "x\ny",
            ".",
            "~",
            "-",
            "0",
        ];
        let mut name: String = (0..=self.below(6))
            .map(|_| parts[self.below(parts.len() as u64) as usize])
            .collect();
        if self.below(10) == 0 {
            name += &"n".repeat(self.below(150) as usize);
        }
        match name.trim_start_matches('.').is_empty() {
            true => "dots".to_owned(),
            false => name,
        }
    }
}

impl Entry {
    fn path_is_mark(&self) -> bool {
        self.path
            .split(|&byte| byte == b'/')
            .any(|part| part.starts_with(b".wh."))
    }
}
