//! Kafka's messages in a stream of bytes: where each begins, and what its first fields say.
//!
//! Both ways a message is a length of four bytes and that many bytes. A request begins with its api key, version and correlation id; an
//! answer with the correlation id alone, so whoever wants to know what it answers has to remember the requests.

/// A length and what stands before the first field that a proxy does not look at, of a request.
const REQUEST_HEAD: usize = 12;
/// The same of an answer.
const ANSWER_HEAD: usize = 8;
/// The bytes of a length.
const LENGTH: usize = 4;

/// The first fields of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// None in an answer.
    pub(super) api_key: Option<i16>,
    pub(super) correlation_id: i32,
}

/// A part of a stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The head of a message, as it was received; the rest of the message follows.
    Begin(Head, Vec<u8>),
    /// More of the message that has begun.
    More(Vec<u8>),
}

/// Divides a stream of bytes into messages, however it was cut.
#[derive(Debug)]
pub(super) struct Frames {
    head_length: usize,
    /// As much of a head as has come.
    head: Vec<u8>,
    /// How many bytes of the message that has begun are still to come.
    rest: usize,
}

impl Frames {
    pub(super) fn of_requests() -> Self {
        Self { head_length: REQUEST_HEAD, head: Vec::new(), rest: 0 }
    }

    pub(super) fn of_answers() -> Self {
        Self { head_length: ANSWER_HEAD, head: Vec::new(), rest: 0 }
    }

    /// The next bytes of the stream. What is not yet a whole head stays here until more comes.
    pub(super) fn push(&mut self, mut bytes: &[u8]) -> Vec<Part> {
        let mut parts = Vec::new();
        while !bytes.is_empty() {
            let into_head = self.rest == 0;
            let wanted = if into_head { self.head_length - self.head.len() } else { self.rest };
            let (taken, left) = bytes.split_at(wanted.min(bytes.len()));
            bytes = left;
            if into_head {
                self.head.extend(taken);
                parts.extend(self.begin());
            } else {
                self.rest -= taken.len();
                parts.push(Part::More(taken.to_vec()));
            }
        }
        parts
    }

    /// The head, if it is whole.
    fn begin(&mut self) -> Option<Part> {
        if self.head.len() < self.head_length {
            return None;
        }
        let bytes = std::mem::take(&mut self.head);
        let number =
            |at: usize| bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, i32::from_be_bytes);
        let message = usize::try_from(number(0)).unwrap_or(0);
        self.rest = (message + LENGTH).saturating_sub(self.head_length);
        let api_key = (self.head_length == REQUEST_HEAD).then(|| i16::from_be_bytes([bytes[4], bytes[5]]));
        let head = Head { api_key, correlation_id: number(self.head_length - 4) };
        Some(Part::Begin(head, bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(api_key: i16, correlation_id: i32, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(8 + body.len()).expect("a short one");
        let (key, id) = (api_key.to_be_bytes(), correlation_id.to_be_bytes());
        [&length.to_be_bytes()[..], &key, &[0, 9], &id, body].concat()
    }

    #[test]
    fn messages_are_found_however_the_stream_was_cut() {
        let stream = [request(26, 7, b"body"), request(0, 8, b""), request(1, -9, b"x")].concat();
        for size in 1..=stream.len() {
            let mut frames = Frames::of_requests();
            let parts: Vec<Part> = stream.chunks(size).flat_map(|chunk| frames.push(chunk)).collect();
            let heads = parts.iter().filter_map(|part| match part {
                Part::Begin(head, _) => Some((head.api_key, head.correlation_id)),
                Part::More(_) => None,
            });
            assert_eq!(heads.collect::<Vec<_>>(), [(Some(26), 7), (Some(0), 8), (Some(1), -9)], "in parts of {size}");
            let bytes = parts.into_iter().flat_map(|part| match part {
                Part::Begin(_, bytes) | Part::More(bytes) => bytes,
            });
            assert_eq!(bytes.collect::<Vec<u8>>(), stream, "in parts of {size}");
        }
    }

    #[test]
    fn an_answer_begins_with_the_id_of_its_request() {
        let parts = Frames::of_answers().push(b"\0\0\0\x06\0\0\0\x07ok");
        let head = Head { api_key: None, correlation_id: 7 };
        assert_eq!(parts, [Part::Begin(head, b"\0\0\0\x06\0\0\0\x07".to_vec()), Part::More(b"ok".to_vec())]);
    }
}
