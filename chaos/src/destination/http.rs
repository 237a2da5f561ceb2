//! As much of HTTP/1.1 as it takes to tell where a message begins and ends.

use std::io::{self, BufRead, Read};
use std::str::from_utf8;

/// No head, and no line of one, is longer.
const MAX_HEAD_BYTES: u64 = 64 * 1024;

/// The head of a message, as it was sent.
#[derive(Debug)]
pub(super) struct Head {
    bytes: Vec<u8>,
    first_line: Vec<String>,
    headers: Vec<(String, String)>,
}

/// What follows a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// So many bytes.
    Length(u64),
    /// Chunks, up to an empty one.
    Chunked,
    /// Whatever comes until the connection ends.
    UntilClosed,
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not HTTP/1.1: {what}"))
}

/// A line with its end. Nothing if the connection ended before it began.
fn read_line(from: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    from.by_ref().take(MAX_HEAD_BYTES).read_until(b'\n', &mut line)?;
    match line.last() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(line)),
        Some(_) if line.len() as u64 == MAX_HEAD_BYTES => Err(malformed("a line of 64 KiB")),
        Some(_) => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn text(line: &[u8]) -> io::Result<&str> {
    from_utf8(line).map(str::trim_end).map_err(|_| malformed("a head that is no text"))
}

impl Head {
    /// The next head; nothing if the connection ends between two messages.
    pub(super) fn read(from: &mut impl BufRead) -> io::Result<Option<Self>> {
        let Some(mut bytes) = read_line(from)? else { return Ok(None) };
        let first_line: Vec<String> = text(&bytes)?.splitn(3, ' ').map(str::to_owned).collect();
        if first_line.len() < 2 {
            return Err(malformed("a first line of one word"));
        }
        let mut headers = Vec::new();
        loop {
            let line = read_line(from)?.ok_or(io::ErrorKind::UnexpectedEof)?;
            bytes.extend_from_slice(&line);
            if bytes.len() as u64 > MAX_HEAD_BYTES {
                return Err(malformed("a head of 64 KiB"));
            }
            let line = text(&line)?;
            if line.is_empty() {
                return Ok(Some(Self { bytes, first_line, headers }));
            }
            let (name, value) = line.split_once(':').ok_or_else(|| malformed("a header without a colon"))?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    /// All of it.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn says(&self, name: &str, word: &str) -> bool {
        self.header(name).is_some_and(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(word)))
    }

    /// Whether it is a request for a head alone.
    pub(super) fn is_for_head(&self) -> bool {
        self.first_line[0] == "HEAD"
    }

    /// Whether this request's body comes only once it is asked for.
    pub(super) fn waits_to_continue(&self) -> bool {
        self.says("expect", "100-continue")
    }

    /// Whether the connection ends with this message.
    pub(super) fn closes(&self) -> bool {
        self.says("connection", "close") || self.first_line.iter().any(|word| word == "HTTP/1.0")
    }

    /// An answer's status.
    pub(super) fn status(&self) -> io::Result<u16> {
        self.first_line[1].parse().map_err(|_| malformed("a status that is no number"))
    }

    fn framed(&self) -> io::Result<Option<Body>> {
        if self.says("transfer-encoding", "chunked") {
            return Ok(Some(Body::Chunked));
        }
        let Some(length) = self.header("content-length") else { return Ok(None) };
        length.parse().map(|length| Some(Body::Length(length))).map_err(|_| malformed("a length that is no number"))
    }

    /// What follows it, if it is a request.
    pub(super) fn body(&self) -> io::Result<Body> {
        Ok(self.framed()?.unwrap_or(Body::Length(0)))
    }

    /// What follows it, if it is the answer to `request`.
    pub(super) fn answer_body(&self, request: &Self) -> io::Result<Body> {
        match self.status()? {
            _ if request.is_for_head() => Ok(Body::Length(0)),
            100..=199 | 204 | 304 => Ok(Body::Length(0)),
            _ => Ok(self.framed()?.unwrap_or(Body::UntilClosed)),
        }
    }
}

/// Passes a body on to `to`, piece by piece and byte by byte.
pub(super) fn pass(
    body: Body,
    from: &mut impl BufRead,
    to: &mut impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    match body {
        Body::Length(length) => pass_bytes(length, from, to),
        Body::UntilClosed => loop {
            let piece = from.fill_buf()?;
            if piece.is_empty() {
                return Ok(());
            }
            to(piece)?;
            let length = piece.len();
            from.consume(length);
        },
        Body::Chunked => loop {
            let line = read_line(from)?.ok_or(io::ErrorKind::UnexpectedEof)?;
            let size = text(&line)?.split(';').next().unwrap_or_default().trim();
            let size = u64::from_str_radix(size, 16).map_err(|_| malformed("a chunk without a size"))?;
            to(&line)?;
            if size == 0 {
                break pass_trailers(from, to);
            }
            let with_end = size.checked_add(2).ok_or_else(|| malformed("a chunk of endless size"))?;
            pass_bytes(with_end, from, to)?;
        },
    }
}

fn pass_bytes(length: u64, from: &mut impl BufRead, to: &mut impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut left = length;
    while left > 0 {
        let piece = from.fill_buf()?;
        if piece.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let length = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        to(&piece[..length])?;
        from.consume(length);
        left -= length as u64;
    }
    Ok(())
}

fn pass_trailers(from: &mut impl BufRead, to: &mut impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    loop {
        let line = read_line(from)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        to(&line)?;
        if text(&line)?.is_empty() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use proptest::prelude::*;

    use super::*;

    fn head(text: &str) -> Head {
        Head::read(&mut text.as_bytes()).unwrap().unwrap()
    }

    #[test]
    fn what_follows_a_head_is_told_from_it() {
        let get = head("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        let put = head("PUT /a HTTP/1.1\r\nCONTENT-length:  7\r\nExpect: 100-Continue\r\nConnection: close\r\n\r\n");
        let asked = head("HEAD /a HTTP/1.1\r\n\r\n");
        assert_eq!(get.body().unwrap(), Body::Length(0));
        assert_eq!((put.body().unwrap(), put.waits_to_continue(), put.closes()), (Body::Length(7), true, true));
        let answer = head("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n");
        assert_eq!(answer.answer_body(&get).unwrap(), Body::Length(9));
        assert_eq!(answer.answer_body(&asked).unwrap(), Body::Length(0));
        assert_eq!(head("HTTP/1.1 204 None\r\n\r\n").answer_body(&get).unwrap(), Body::Length(0));
        assert_eq!(head("HTTP/1.1 200\r\n\r\n").answer_body(&get).unwrap(), Body::UntilClosed);
        let chunked = head("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        assert_eq!(chunked.answer_body(&get).unwrap(), Body::Chunked);
    }

    #[test]
    fn what_is_no_head_is_an_error() {
        for text in ["x\r\n\r\n", "GET /\r\nno colon\r\n\r\n", "GET / HTTP/1.1\r\n", "GET"] {
            assert!(Head::read(&mut text.as_bytes()).is_err(), "{text:?}");
        }
        assert!(Head::read(&mut "".as_bytes()).unwrap().is_none());
        let endless = vec![b'a'; 100_000];
        assert!(Head::read(&mut endless.as_slice()).is_err());
        assert!(head("PUT / HTTP/1.1\r\nContent-Length: many\r\n\r\n").body().is_err());
    }

    proptest! {
        #[test]
        fn a_chunked_body_is_passed_on_and_nothing_behind_it(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..50), 0..8),
            capacity in 1..40usize,
        ) {
            let mut sent = Vec::new();
            for chunk in &chunks {
                sent.extend(format!("{:x};a=b\r\n", chunk.len()).bytes());
                sent.extend_from_slice(chunk);
                sent.extend(b"\r\n");
            }
            sent.extend(b"0\r\nTrailer: x\r\n\r\n");
            let length = sent.len();
            sent.extend(b"GET ");
            let mut from = BufReader::with_capacity(capacity, sent.as_slice());
            let mut passed = Vec::new();
            pass(Body::Chunked, &mut from, &mut |piece| { passed.extend_from_slice(piece); Ok(()) }).unwrap();
            prop_assert_eq!(&passed, &sent[..length]);
            let mut rest = Vec::new();
            from.read_to_end(&mut rest).unwrap();
            prop_assert_eq!(rest, b"GET ");
        }

        #[test]
        fn any_bytes_are_passed_on_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Head::read(&mut bytes.as_slice());
            for body in [Body::Chunked, Body::Length(200), Body::UntilClosed] {
                let _ = pass(body, &mut bytes.as_slice(), &mut |_| Ok(()));
            }
        }
    }
}
