//! What clients ask for.

use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::supervise::Supervisor;
use crate::attach::message::{Event, MAX_PACKET, Request};
use crate::attach::socket;
use crate::freeze::{self, Frozen};
use crate::sys;

impl Supervisor {
    pub(super) fn write_input(&mut self) {
        let Some(program) = &mut self.program else {
            return;
        };
        for number in program.write_input() {
            if let Some((_, client)) = self.clients.iter_mut().find(|(n, _)| *n == number) {
                client.event(&Event::StdinTaken);
            }
        }
    }

    /// Sends what waits, and does one request.
    pub(super) fn serve(&mut self, number: u64) {
        let Some(at) = self.clients.iter().position(|(n, _)| *n == number) else {
            return;
        };
        let mut packet = std::mem::take(&mut self.buffer);
        packet.resize(MAX_PACKET, 0);
        let client = &mut self.clients[at].1;
        client.flush();
        match socket::try_receive(client.as_fd(), &mut packet) {
            Ok([]) => client.gone = true,
            Ok(received) => {
                if let Some(request) = Request::decode(received) {
                    self.request(at, request);
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => client.gone = true,
        }
        self.buffer = packet;
        if self.clients[at].1.gone {
            let (_, client) = self.clients.swap_remove(at);
            if client.streams.stdin {
                self.input_ends();
            }
        }
    }

    /// A client's input has ended.
    fn input_ends(&mut self) {
        if let Some(program) = self
            .program
            .as_mut()
            .filter(|_| self.stdin_once && !self.tty)
        {
            program.close_input_when_done();
            self.write_input();
        }
    }

    fn request(&mut self, at: usize, request: Request<'_>) {
        let (number, client) = &mut self.clients[at];
        match request {
            Request::Attach(streams) => {
                client.streams = streams;
                client.waits = true;
            }
            Request::Stdin(data) => match &mut self.program {
                Some(program) if !data.is_empty() => {
                    program.typed.push_back((*number, data.to_vec()));
                    self.write_input();
                }
                _ => client.event(&Event::StdinTaken),
            },
            Request::StdinEof => self.input_ends(),
            Request::Resize(size) => {
                self.size = Some(size);
                if let Some(console) = self.program.as_ref().and_then(|p| p.ends.console.as_ref()) {
                    // A console that has hung up needs no size.
                    let _ = sys::set_terminal_size(console.as_fd(), size.rows, size.columns);
                }
            }
            Request::Signal(signal) => {
                let result = match &self.program {
                    Some(program) => program.signal(signal),
                    None => Err(libc::ESRCH),
                };
                client.event(&result.map_or_else(Event::Refused, |()| Event::Done));
                // As Docker: who ends it by hand doesn't want it to be started again.
                if result.is_ok() && (signal == self.stop_signal || signal == libc::SIGKILL) {
                    self.stopping = true;
                    self.stopped_by_user = true;
                }
            }
            Request::Stop { signal, timeout } => {
                client.waits = true;
                self.stopped_by_user = true;
                self.stop(signal, timeout);
            }
            Request::Wait => client.waits = true,
            Request::Freeze => {
                let event = match self.freeze() {
                    Ok(frozen) => {
                        self.clients[at].1.frozen = Some(frozen);
                        Event::Done
                    }
                    Err(error) => Event::Refused(error.raw_os_error().unwrap_or(libc::EIO)),
                };
                self.clients[at].1.event(&event);
            }
        }
    }

    /// Until the last client that asked for it has gone.
    fn freeze(&self) -> io::Result<Rc<Frozen>> {
        if let Some(frozen) = self.clients.iter().find_map(|(_, c)| c.frozen.clone()) {
            return Ok(frozen);
        }
        match &self.program {
            Some(program) => freeze::freeze(program.pid.as_raw()).map(Rc::new),
            None => Err(io::Error::from_raw_os_error(libc::ESRCH)),
        }
    }

    pub(super) fn stop(&mut self, signal: i32, timeout: Option<Duration>) {
        self.stopping = true;
        match &self.program {
            Some(program) => {
                // It may be ending at this moment.
                let _ = program.signal(signal);
                self.kill_at = timeout.and_then(|t| Instant::now().checked_add(t));
            }
            // Between two starts.
            None => {
                self.restart_at = None;
                self.finished = self.finished.or(Some(self.book.last_code()));
            }
        }
    }
}
