//! `produce`: lines to records, records to requests.

use std::io::{BufRead as _, BufReader, Read, Write};

use super::args::ProduceArgs;
use super::client::{Client, RequestError};
use super::failure::Failure;
use super::print_json;
use crate::api::wire::{Appended, Header, Problem, ProduceAnswer, Record};
use crate::model::json_error::without_values;

/// A request has at most this many records: durable quickly, and still thousands of commits fewer than one a record.
const REQUEST_RECORDS_MAX: usize = 1_000;

/// A request ends before it has more bytes of JSON than this; a larger record goes alone.
const REQUEST_BYTES_MAX: usize = 1024 * 1024;

/// A longer line is surely not meant, and would not fit a request when written as JSON.
const LINE_BYTES_MAX: usize = 16 * 1024 * 1024;

pub(super) fn produce(
    client: &Client,
    args: &ProduceArgs,
    input: impl Read,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let path = ["clusters", &args.cluster, "topics", &args.topic, "records"];
    let mut requests = Requests::new(input, Format::new(args));
    let mut done = Done::default();
    while let Some(request) = requests.next().map_err(|failure| failure.and(&done.tell()))? {
        match client.post(&path, &[], "application/x-ndjson", &request.body) {
            Ok(answer) => done.add(&answer, &request),
            Err(error) => return Err(done.failure(error, &request)),
        }
    }
    if args.json {
        return print_json(out, &done.answer);
    }
    let partitions = done.answer.partitions.iter();
    let place = |at: &Appended| format!("{} in partition {} from offset {}", at.records, at.partition, at.first_offset);
    let places: Vec<String> = partitions.map(place).collect();
    let places = if places.is_empty() { String::new() } else { format!(": {}", places.join(", ")) };
    Ok(writeln!(out, "{} records{places}", done.answer.records)?)
}

/// What is durable.
#[derive(Default)]
struct Done {
    /// All answers in one. The offsets of a partition need not be without a gap: others may produce too.
    answer: ProduceAnswer,
    last_line: u64,
}

impl Done {
    fn add(&mut self, answer: &ProduceAnswer, request: &Request) {
        self.add_partitions(&answer.partitions);
        self.last_line = request.last_line();
    }

    fn add_partitions(&mut self, partitions: &[Appended]) {
        for appended in partitions {
            self.answer.records += appended.records;
            let all = &mut self.answer.partitions;
            match all.binary_search_by_key(&appended.partition, |known| known.partition) {
                Ok(index) => all[index].records += appended.records,
                Err(index) => all.insert(index, *appended),
            }
        }
    }

    fn tell(&self) -> String {
        match self.answer.records {
            0 => "no record was acknowledged".to_owned(),
            records => format!("{records} records were acknowledged, up to line {}", self.last_line),
        }
    }

    fn failure(&mut self, error: RequestError, request: &Request) -> Failure {
        let (first, last) = (request.first_line, request.last_line());
        match error {
            RequestError::Refused(problem) => {
                let before = self.tell();
                self.add_partitions(&problem.appended);
                let partly: u64 = problem.appended.iter().map(|appended| appended.records).sum();
                let failure = Failure::from(RequestError::Refused(Box::new(request.translate(*problem))));
                let failure = failure.and(&before);
                if partly == 0 {
                    return failure;
                }
                failure.and(&format!("of lines {first} to {last}, {partly} more are in partitions {}", self.places()))
            }
            RequestError::Unreachable(failure) => failure.and(&self.tell()),
            RequestError::Lost(failure) => {
                failure.and(&self.tell()).and(&format!("whether lines {first} to {last} were written is not known"))
            }
        }
    }

    fn places(&self) -> String {
        let numbers: Vec<String> = self.answer.partitions.iter().map(|at| at.partition.to_string()).collect();
        numbers.join(", ")
    }
}

/// How a line becomes a record.
struct Format {
    key_separator: Option<Vec<u8>>,
    headers: Vec<Header>,
    partition: Option<u32>,
    json: bool,
}

impl Format {
    fn new(args: &ProduceArgs) -> Self {
        let header = |(name, value): &(String, String)| Header {
            name: name.clone().into_bytes(),
            value: Some(value.clone().into_bytes()),
        };
        Self {
            key_separator: args.key_separator.clone().map(String::into_bytes),
            headers: args.headers.iter().map(header).collect(),
            partition: args.partition,
            json: args.json,
        }
    }

    fn record(&self, line: &[u8]) -> Result<Record, String> {
        let mut record = if self.json {
            serde_json::from_slice(line)
                .map_err(|error| format!("not a record: {}", without_values(&error.to_string())))?
        } else {
            self.plain(line)?
        };
        record.headers.extend_from_slice(&self.headers);
        record.partition = self.partition.or(record.partition);
        Ok(record)
    }

    fn plain(&self, line: &[u8]) -> Result<Record, String> {
        let Some(separator) = &self.key_separator else {
            return Ok(Record { value: Some(line.to_vec()), ..Record::default() });
        };
        let at = line.windows(separator.len()).position(|window| window == separator);
        let at =
            at.ok_or_else(|| format!("there is no {:?} between key and value", String::from_utf8_lossy(separator)))?;
        let (key, value) = (&line[..at], &line[at + separator.len()..]);
        Ok(Record { key: Some(key.to_vec()), value: Some(value.to_vec()), ..Record::default() })
    }
}

/// The body of a request. It has a line for each line of the input, empty ones included, so that the daemon's
/// line numbers can be turned into the input's.
#[derive(Debug, Default, PartialEq, Eq)]
struct Request {
    body: Vec<u8>,
    records: usize,
    first_line: u64,
    lines: u64,
}

impl Request {
    fn push(&mut self, line: &Line) {
        if self.lines == 0 {
            self.first_line = line.number;
        }
        self.lines += 1;
        self.records += usize::from(!line.json.is_empty());
        self.body.extend_from_slice(&line.json);
        self.body.push(b'\n');
    }

    fn has_room_for(&self, line: &Line) -> bool {
        self.records == 0 || self.records < REQUEST_RECORDS_MAX && self.body.len() + line.json.len() < REQUEST_BYTES_MAX
    }

    fn last_line(&self) -> u64 {
        self.first_line + self.lines.saturating_sub(1)
    }

    /// The problem with the line number of the input in place of the request's.
    fn translate(&self, mut problem: Problem) -> Problem {
        let place = problem.detail.strip_prefix("line ").and_then(|text| text.split_once(": "));
        if let Some((Ok(number), what)) = place.map(|(number, what)| (number.parse::<u64>(), what)) {
            problem.detail = format!("line {}: {what}", self.first_line + number.saturating_sub(1));
        }
        // The daemon has written nothing of this request, but maybe of others before it.
        problem.remedy = if problem.code == "bad-record" { String::from(RESUME) } else { problem.remedy };
        problem
    }
}

const RESUME: &str = "correct the line, and produce again what was not acknowledged";

/// A line of the input as JSON; empty for an empty line among JSON lines.
struct Line {
    number: u64,
    json: Vec<u8>,
}

/// Cuts the input into requests, with no more than a line and a request in memory.
struct Requests<R> {
    input: BufReader<R>,
    format: Format,
    line_number: u64,
    held: Option<Line>,
    failed: Option<Failure>,
}

impl<R: Read> Requests<R> {
    fn new(input: R, format: Format) -> Self {
        // As large as a request, so that a file is cut by the limits alone.
        let input = BufReader::with_capacity(REQUEST_BYTES_MAX, input);
        Self { input, format, line_number: 0, held: None, failed: None }
    }

    /// The next request. It ends when it is full, at the end, before a bad line (so that everything before it is
    /// produced), and when nothing more is there at once: who produces slowly sees every record go out.
    fn next(&mut self) -> Result<Option<Request>, Failure> {
        let mut request = Request::default();
        while self.failed.is_none() {
            match self.take_line() {
                Ok(None) => break,
                Err(failure) => self.failed = Some(failure),
                Ok(Some(line)) if !request.has_room_for(&line) => {
                    self.held = Some(line);
                    break;
                }
                Ok(Some(line)) => request.push(&line),
            }
            if request.records > 0 && self.input.buffer().is_empty() {
                break;
            }
        }
        match self.failed.take() {
            Some(failure) if request.records == 0 => Err(failure),
            failed => {
                self.failed = failed;
                Ok((request.records > 0).then_some(request))
            }
        }
    }

    fn take_line(&mut self) -> Result<Option<Line>, Failure> {
        if let Some(held) = self.held.take() {
            return Ok(Some(held));
        }
        let mut line = Vec::new();
        let mut limited = self.input.by_ref().take(LINE_BYTES_MAX as u64 + 1);
        let read = limited.read_until(b'\n', &mut line);
        let number = self.line_number + 1;
        let bad = |what: String| Failure::new(format!("line {number}: {what}"), RESUME);
        if read.map_err(|error| bad(format!("cannot read the input: {error}")))? == 0 {
            return Ok(None);
        }
        self.line_number = number;
        if line.last() == Some(&b'\n') {
            line.pop();
        } else if line.len() > LINE_BYTES_MAX {
            return Err(bad(format!("longer than {} MiB", LINE_BYTES_MAX / 1024 / 1024)));
        }
        if self.format.json && line.trim_ascii().is_empty() {
            return Ok(Some(Line { number, json: Vec::new() }));
        }
        let record = self.format.record(&line).map_err(&bad)?;
        let json = serde_json::to_vec(&record).map_err(|error| bad(error.to_string()))?;
        Ok(Some(Line { number, json }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(json: bool) -> Format {
        Format { key_separator: None, headers: Vec::new(), partition: None, json }
    }

    /// A reader that gives at most so many bytes at once, as a pipe does.
    struct Pipe<'a>(&'a [u8], usize);

    impl Read for Pipe<'_> {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            let count = self.1.min(self.0.len()).min(into.len());
            into[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    fn cut(input: impl Read, json: bool) -> (Vec<Request>, Option<Failure>) {
        let mut requests = Requests::new(input, format(json));
        let mut all = Vec::new();
        loop {
            match requests.next() {
                Ok(Some(request)) => all.push(request),
                Ok(None) => return (all, None),
                Err(failure) => return (all, Some(failure)),
            }
        }
    }

    fn values(requests: &[Request]) -> Vec<Vec<u8>> {
        let lines = requests.iter().flat_map(|request| request.body.split(|byte| *byte == b'\n'));
        let records = lines.filter(|line| !line.is_empty());
        records.map(|line| serde_json::from_slice::<Record>(line).expect("json").value.expect("a value")).collect()
    }

    #[test]
    fn a_request_has_at_most_1000_records() {
        let input: String = (0..2_500).map(|number| format!("{number}\n")).collect();
        let (requests, failure) = cut(input.as_bytes(), false);
        assert_eq!(failure, None);
        assert_eq!(requests.iter().map(|request| request.records).collect::<Vec<_>>(), [1_000, 1_000, 500]);
        let expect: Vec<Vec<u8>> = (0..2_500).map(|number| number.to_string().into_bytes()).collect();
        assert_eq!(values(&requests), expect);
        assert_eq!((requests[1].first_line, requests[2].last_line()), (1_001, 2_500));
    }

    #[test]
    fn a_request_has_at_most_a_mebibyte_unless_a_record_is_larger() {
        let sizes = [400_000, 400_000, 400_000, 3_000_000, 10, 10];
        let input: Vec<u8> = sizes.iter().flat_map(|size| [vec![b'x'; *size], vec![b'\n']].concat()).collect();
        let (requests, failure) = cut(input.as_slice(), false);
        assert_eq!(failure, None);
        assert_eq!(values(&requests).iter().map(Vec::len).collect::<Vec<_>>(), sizes);
        for request in &requests {
            assert!(request.records == 1 || request.body.len() <= REQUEST_BYTES_MAX, "{}", request.body.len());
        }
        assert!(requests.len() <= 5, "{} requests", requests.len());
    }

    #[test]
    fn slow_input_goes_out_as_it_comes() {
        let (requests, failure) = cut(Pipe(b"a\nb\nc", 2), false);
        assert_eq!(failure, None);
        assert_eq!(requests.iter().map(|request| request.records).collect::<Vec<_>>(), [1, 1, 1]);
        assert_eq!(values(&requests), [b"a", b"b", b"c"]);
    }

    #[test]
    fn bytes_of_a_line_are_the_value() {
        let (requests, failure) = cut(b"\n \xff\r\n\0".as_slice(), false);
        assert_eq!(failure, None);
        assert_eq!(values(&requests), [b"".to_vec(), b" \xff\r".to_vec(), b"\0".to_vec()]);
    }

    #[test]
    fn what_stands_before_a_bad_line_goes_out_first() {
        let (requests, failure) = cut(b"{\"value\":\"a\"}\n\n{\"value\":\"b\"}\nnonsense\n{}".as_slice(), true);
        assert_eq!(values(&requests), [b"a", b"b"]);
        let Some(Failure::Told { message, .. }) = failure else { unreachable!("{failure:?}") };
        assert!(message.starts_with("line 4: not a record: "), "{message}");
    }

    #[test]
    fn empty_json_lines_count_as_lines_only() {
        let (requests, failure) = cut(b"\n\n{\"value\":\"a\"}\n\n\n".as_slice(), true);
        assert_eq!((failure, requests.len(), requests[0].records), (None, 1, 1));
        assert_eq!((requests[0].first_line, values(&requests).len()), (1, 1));
    }

    #[test]
    fn an_endless_line_is_refused_without_being_kept() {
        let (requests, failure) = cut(std::io::repeat(b'x'), false);
        assert!(requests.is_empty());
        assert_eq!(failure, Some(Failure::new("line 1: longer than 16 MiB", RESUME)));
    }

    #[test]
    fn the_first_separator_divides_key_and_value() {
        let format = Format { key_separator: Some(b"::".to_vec()), ..format(false) };
        let record = format.record(b"a:b::c::d").expect("a record");
        assert_eq!((record.key, record.value), (Some(b"a:b".to_vec()), Some(b"c::d".to_vec())));
        assert_eq!(format.record(b"a:b"), Err("there is no \"::\" between key and value".to_owned()));
    }

    #[test]
    fn flags_add_headers_and_set_the_partition() {
        let header = |name: &[u8]| Header { name: name.to_vec(), value: Some(b"1".to_vec()) };
        let format = Format { headers: vec![header(b"x")], partition: Some(3), ..format(true) };
        let record = format.record(br#"{"headers":[["a","1"]],"partition":1}"#).expect("a record");
        assert_eq!((record.headers, record.partition), (vec![header(b"a"), header(b"x")], Some(3)));
    }
}
