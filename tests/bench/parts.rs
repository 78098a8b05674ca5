//! What pulling an image can't do without, as processes of their own: this program, called `bench gunzip|sha256 THREADS
//! FILE…` (0 threads: one for each core) or `bench rss COMMAND…`.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;

use flate2::bufread::MultiGzDecoder;
use nix::sys::resource::{UsageWho, getrusage};
use ring::digest::{Context, SHA256};

const BUFFER: usize = 256 << 10;

/// Does the part that the arguments name; `None` when they name none.
pub(crate) fn run(arguments: &[String]) -> Option<io::Result<()>> {
    let (name, rest) = arguments.split_first()?;
    match name.as_str() {
        "gunzip" => Some(each(rest, gunzip)),
        "sha256" => Some(each(rest, sha256)),
        "rss" => Some(rss(rest)),
        _ => None,
    }
}

/// `work` on all files, by as many threads as the first word says.
fn each(words: &[String], work: fn(&str) -> io::Result<()>) -> io::Result<()> {
    let (threads, files) = words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let threads = match threads.parse().map_err(io::Error::other)? {
        0 => thread::available_parallelism()?.get(),
        some => some,
    };
    let next = Mutex::new(files.iter());
    let all = || {
        loop {
            let file = next.lock().expect("nobody panics").next();
            match file {
                Some(file) => work(file)?,
                None => return Ok(()),
            }
        }
    };
    thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(all)).collect();
        all()?;
        others
            .into_iter()
            .try_for_each(|other| other.join().expect("nobody panics"))
    })
}

fn gunzip(file: &str) -> io::Result<()> {
    let mut plain = MultiGzDecoder::new(BufReader::with_capacity(BUFFER, File::open(file)?));
    let mut buffer = vec![0; BUFFER];
    while plain.read(&mut buffer)? > 0 {}
    Ok(())
}

fn sha256(file: &str) -> io::Result<()> {
    let (mut file, mut context) = (File::open(file)?, Context::new(&SHA256));
    let mut buffer = vec![0; BUFFER];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            count => context.update(&buffer[..count]),
        }
    }
    std::hint::black_box(context.finish());
    Ok(())
}

/// Runs the command, and says the largest resident set, in KiB, of it and of all that it has waited for.
fn rss(words: &[String]) -> io::Result<()> {
    let (program, arguments) = words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut command = Command::new(program);
    let status = command.args(arguments).stdout(Stdio::null()).status()?;
    if !status.success() {
        return Err(io::Error::other(format!("{program}: {status}")));
    }
    println!("{}", getrusage(UsageWho::RUSAGE_CHILDREN)?.max_rss());
    Ok(())
}
