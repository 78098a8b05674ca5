//! Requests in the form that a proxy for plain http expects: `GET http://host/path` (RFC 9112, 3.2.2).
//!
//! ureq would have the proxy make a tunnel, which many allow for port 443 only, and writes no URL but those that begin with
//! a slash. So it is asked for `/http://host/path` of the proxy, and here the slash is taken away.

use ureq::Error;
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport};

/// What the path of a URL is to begin with.
const MARK: &[u8] = b" /http://";

/// Takes the slash away from all requests whose path begins with `/http://`.
#[derive(Debug)]
pub(super) struct AbsoluteForm;

impl<In: Transport> Connector<In> for AbsoluteForm {
    type Out = Rewriting<In>;

    fn connect(
        &self,
        _: &ConnectionDetails,
        chained: Option<In>,
    ) -> Result<Option<Rewriting<In>>, Error> {
        Ok(chained.map(|inner| Rewriting { inner, fresh: true }))
    }
}

#[derive(Debug)]
pub(super) struct Rewriting<T> {
    inner: T,
    /// The next bytes are a request's first: nothing was sent since an answer came.
    fresh: bool,
}

impl<T: Transport> Transport for Rewriting<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, mut amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        if std::mem::take(&mut self.fresh) {
            let output = &mut self.inner.buffers().output()[..amount];
            let method = output.iter().position(|byte| *byte == b' ');
            if let Some(at) = method.filter(|at| output[*at..].starts_with(MARK)) {
                output.copy_within(at + 2.., at + 1);
                amount -= 1;
            }
        }
        self.inner.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.fresh = true;
        self.inner.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        self.inner.is_open()
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}
