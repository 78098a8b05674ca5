use super::header::{self, Block};
use super::*;

fn read_all(bytes: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>, TarError> {
    let mut reader = Reader::new(bytes);
    let mut out = Vec::new();
    while let Some(entry) = reader.next_entry()? {
        let mut content = Vec::new();
        loop {
            // In small pieces, to cross every boundary.
            let piece = reader.data()?;
            let piece = &piece[..piece.len().min(7)];
            if piece.is_empty() {
                break;
            }
            content.extend_from_slice(piece);
            let count = piece.len();
            reader.consume(count);
        }
        out.push((entry, content));
    }
    Ok(out)
}

fn write_all(entries: &[(Entry, Vec<u8>)]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (entry, content) in entries {
        writer.begin(entry).unwrap();
        writer.write_data(content).unwrap();
    }
    writer.finish().unwrap()
}

fn file(path: &str, content: &[u8]) -> (Entry, Vec<u8>) {
    let mut entry = Entry::new(path, Kind::File, 0o644);
    entry.size = content.len() as u64;
    (entry, content.to_vec())
}

#[test]
fn what_is_written_is_read_again() {
    let mut all = vec![file("a", b"hello"), file("empty", b"")];
    let mut long = file(&"x/".repeat(300), b"12345");
    long.0.path.push(b'f');
    all.push(long);
    all.push(file(
        &format!("{}/{}", "d".repeat(150), "n".repeat(100)),
        b"split",
    ));
    all.push(file(&"n".repeat(255), b"no slash"));
    let mut link = Entry::new("link", Kind::Symlink, 0o777);
    link.link = vec![b't'; 3000];
    all.push((link, Vec::new()));
    let mut odd = file("odd", &[7; 513]);
    odd.0.uid = u32::MAX - 1;
    odd.0.gid = 3_000_000;
    odd.0.mode = 0o6755;
    odd.0.mtime = Time {
        seconds: -2,
        nanos: 250_000_000,
    };
    odd.0.xattrs = vec![
        (b"user.a=b".to_vec(), b"with\nnewline\0".to_vec()),
        (b"security.capability".to_vec(), vec![0, 255, 10]),
    ];
    // A pax key ends at the first `=`: such a name can't be kept.
    odd.0.xattrs.remove(0);
    all.push(odd);
    let mut device = Entry::new("dev", Kind::BlockDevice, 0o600);
    device.device = (4095, 1_048_575);
    all.push((device, Vec::new()));
    all.push((Entry::new("dir/", Kind::Directory, 0o1777), Vec::new()));
    let mut late = file("late", b"x");
    late.0.mtime.seconds = 1 << 40;
    all.push(late);
    let mut sparse = file("sparse", b"headtail");
    sparse.0.size = 1 << 40;
    sparse.0.sparse = Some(vec![
        Segment {
            offset: 4096,
            len: 4,
        },
        Segment {
            offset: (1 << 40) - 4,
            len: 4,
        },
    ]);
    all.push(sparse);
    let mut hole = file("hole", b"");
    hole.0.size = 5000;
    hole.0.sparse = Some(Vec::new());
    all.push(hole);
    let bytes = write_all(&all);
    assert_eq!(read_all(&bytes).unwrap(), all);
}

#[test]
fn an_archive_cut_anywhere_is_an_error_or_has_no_end_mark() {
    let bytes = write_all(&[file(&"long/".repeat(60), b""), file("b", &[1; 700])]);
    for cut in 0..bytes.len() - 1024 {
        let mut reader = Reader::new(&bytes[..cut]);
        let result = loop {
            match reader.next_entry() {
                Ok(Some(_)) => {}
                other => break other.map(drop),
            }
        };
        match result {
            Ok(()) => assert!(!reader.has_end_mark() && cut % 512 == 0, "{cut}"),
            Err(TarError::Truncated { .. }) => {}
            Err(other) => panic!("{cut}: {other}"),
        }
    }
}

#[test]
fn a_flipped_bit_in_a_header_is_found() {
    let bytes = write_all(&[file("a", b"")]);
    for bit in 0..512 * 8 {
        let mut bad = bytes.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        // A zero of the checksum's may become a blank and mean the same.
        let at = bit / 8;
        if !header::CHECKSUM.contains(&at) {
            assert!(read_all(&bad).is_err(), "byte {at}");
        }
    }
}

fn raw(kind: u8, name: &str, size: u64) -> Block {
    let mut block = [0; BLOCK];
    header::put_text(&mut block[header::NAME], name.as_bytes());
    header::put_number(&mut block[header::MODE], 0o644);
    header::put_number(&mut block[header::SIZE], size);
    block[header::TYPE] = kind;
    header::put_text(&mut block[header::MAGIC], header::GNU_MAGIC);
    header::seal(&mut block);
    block
}

fn padded(bytes: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    out.resize(out.len().next_multiple_of(BLOCK), 0);
    out
}

#[test]
fn gnu_long_names_and_global_headers() {
    let long = "n".repeat(400);
    let bytes = [
        raw(b'g', "global", 20).to_vec(),
        padded(b"20 comment=whatever\n"),
        raw(b'K', "././@LongLink", 401).to_vec(),
        padded(long.as_bytes()),
        raw(b'L', "././@LongLink", 401).to_vec(),
        padded(long.as_bytes()),
        raw(b'2', "short", 0).to_vec(),
        vec![0; 1024],
    ]
    .concat();
    let entries = read_all(&bytes).unwrap();
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].0.path, long.as_bytes());
    assert_eq!(entries[0].0.link, long.as_bytes());
    assert_eq!(entries[0].0.kind, Kind::Symlink);
}

fn with_pax(records: &[(&str, &str)], content: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    for (key, value) in records {
        pax::push(&mut text, key.as_bytes(), value.as_bytes());
    }
    [
        raw(b'x', "pax", text.len() as u64).to_vec(),
        padded(&text),
        raw(b'0', "f", content.len() as u64).to_vec(),
        padded(content),
        vec![0; 1024],
    ]
    .concat()
}

const MAP: [Segment; 2] = [
    Segment { offset: 0, len: 3 },
    Segment {
        offset: 1000,
        len: 2,
    },
];

#[test]
fn all_sparse_formats_are_understood() {
    let v00 = with_pax(
        &[
            ("GNU.sparse.size", "2000"),
            ("GNU.sparse.numblocks", "2"),
            ("GNU.sparse.offset", "0"),
            ("GNU.sparse.numbytes", "3"),
            ("GNU.sparse.offset", "1000"),
            ("GNU.sparse.numbytes", "2"),
        ],
        b"abcde",
    );
    let v01 = with_pax(
        &[
            ("GNU.sparse.size", "2000"),
            ("GNU.sparse.numblocks", "2"),
            ("GNU.sparse.map", "0,3,1000,2"),
            ("GNU.sparse.name", "f"),
        ],
        b"abcde",
    );
    let v10 = with_pax(
        &[
            ("GNU.sparse.major", "1"),
            ("GNU.sparse.minor", "0"),
            ("GNU.sparse.name", "f"),
            ("GNU.sparse.realsize", "2000"),
        ],
        &[padded(b"2\n0\n3\n1000\n2\n"), b"abcde".to_vec()].concat(),
    );
    let mut block = raw(b'S', "f", 5);
    for (at, value) in [(386, 0), (398, 3), (410, 1000), (422, 2), (483, 2000)] {
        header::put_number(&mut block[at..at + 12], value);
    }
    header::seal(&mut block);
    let old = [block.to_vec(), padded(b"abcde"), vec![0; 1024]].concat();
    for bytes in [v00, v01, v10, old] {
        let entries = read_all(&bytes).unwrap();
        let (entry, content) = &entries[0];
        assert_eq!(entry.sparse.as_deref(), Some(&MAP[..]));
        assert_eq!((entry.size, &content[..]), (2000, &b"abcde"[..]));
        assert_eq!(entry.path, b"f");
    }
}

#[test]
fn hostile_headers_are_refused_without_taking_memory() {
    type Records = &'static [(&'static str, &'static str)];
    let lies: [(Records, &[u8]); 8] = [
        (&[("size", "99999999999999999999")], b""),
        (&[("uid", "-1")], b""),
        (&[("path", "a\0b")], b""),
        (&[("mtime", "x")], b""),
        (
            &[("GNU.sparse.map", "5,10,0,1"), ("GNU.sparse.size", "20")],
            b"abc",
        ),
        (
            &[
                ("GNU.sparse.map", "0,18446744073709551615"),
                ("GNU.sparse.size", "1"),
            ],
            b"",
        ),
        (&[("GNU.sparse.numbytes", "1")], b""),
        (&[("GNU.sparse.major", "1")], b"9999999\n"),
    ];
    for (records, content) in lies {
        let error = read_all(&with_pax(records, content)).unwrap_err();
        assert!(
            matches!(error, TarError::Header { .. }),
            "{records:?}: {error}"
        );
    }
    for block in [
        raw(b'x', "pax", 1 << 32),
        raw(b'L', "l", 1 << 30),
        raw(b'Q', "?", 0),
    ] {
        assert!(matches!(read_all(&block), Err(TarError::Header { .. })));
    }
}

#[test]
fn random_bytes_never_panic() {
    let mut seed = 0x1234_5678_9abc_def0_u64;
    let mut next = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let good = with_pax(
        &[("path", "abc"), ("GNU.sparse.major", "1")],
        b"1\n0\n5\nabcdefgh",
    );
    for _ in 0..3000 {
        let mut bytes = good.clone();
        for _ in 0..next() % 6 {
            let at = next() as usize % bytes.len();
            bytes[at] = next() as u8;
        }
        // Sealed again, so that more than the checksum is tried.
        for at in (0..bytes.len() - 1024).step_by(BLOCK) {
            if bytes[at + header::MAGIC.start..].starts_with(b"ustar") {
                let mut block: Block = bytes[at..at + BLOCK].try_into().unwrap();
                header::seal(&mut block);
                bytes[at..at + BLOCK].copy_from_slice(&block);
            }
        }
        let _ = read_all(&bytes);
    }
}
