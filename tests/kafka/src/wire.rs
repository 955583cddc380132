//! As much of the wire protocol as it takes to see that a broker answers.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long a broker may take to answer. One that takes longer is stopped or is starting, and is asked again.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// The largest answer that is read, in bytes. Real ones have a few hundred.
const ANSWER_BYTES_MAX: u32 = 1 << 20;
/// Echoed by the broker in front of its answer.
const CORRELATION_ID: i32 = 7;

const METADATA: i16 = 3;

/// The answer of a broker to one request on a connection of its own, without the correlation id. `version` is one whose header is not flexible.
///
/// Errors: nobody listens, the connection breaks, or what comes back is no answer to this request.
pub fn ask(broker: SocketAddr, api_key: i16, version: i16, body: &[u8]) -> io::Result<Vec<u8>> {
    let mut request = Vec::new();
    request.extend(api_key.to_be_bytes());
    request.extend(version.to_be_bytes());
    request.extend(CORRELATION_ID.to_be_bytes());
    request.extend((-1_i16).to_be_bytes()); // no client id
    request.extend(body);
    let length = u32::try_from(request.len()).map_err(io::Error::other)?;

    let mut stream = TcpStream::connect_timeout(&broker, ANSWER_WITHIN)?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    stream.set_write_timeout(Some(ANSWER_WITHIN))?;
    stream.write_all(&[&length.to_be_bytes(), &*request].concat())?;

    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length);
    if length > ANSWER_BYTES_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut answer = vec![0; length as usize];
    stream.read_exact(&mut answer)?;
    match answer.split_first_chunk() {
        Some((id, rest)) if *id == CORRELATION_ID.to_be_bytes() => Ok(rest.to_vec()),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// The node ids of the brokers that this broker knows to be alive.
///
/// Errors: those of [`ask`].
pub(crate) fn living_brokers(broker: SocketAddr) -> io::Result<Vec<i32>> {
    // Metadata 1 of no topics.
    let answer = ask(broker, METADATA, 1, &0_i32.to_be_bytes())?;
    brokers(&answer).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// The node ids in an answer to Metadata 1, which begins with an array of node id, host, port and rack.
fn brokers(mut answer: &[u8]) -> Option<Vec<i32>> {
    let count = int32(&mut answer)?;
    let mut nodes = Vec::new();
    for _ in 0..count {
        nodes.push(int32(&mut answer)?);
        skip_string(&mut answer)?;
        int32(&mut answer)?;
        skip_string(&mut answer)?;
    }
    Some(nodes)
}

fn int32(bytes: &mut &[u8]) -> Option<i32> {
    let (number, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(i32::from_be_bytes(*number))
}

/// A string that may be null, which has the length -1.
fn skip_string(bytes: &mut &[u8]) -> Option<()> {
    let (length, rest) = bytes.split_first_chunk()?;
    let length = usize::try_from(i16::from_be_bytes(*length)).unwrap_or(0);
    *bytes = rest.get(length..)?;
    Some(())
}

#[cfg(test)]
mod tests {
    use super::brokers;

    #[test]
    fn an_answer_that_is_cut_names_no_brokers() {
        let answer = b"\0\0\0\x02\0\0\0\x01\0\x01h\0\0\0\x09\xff\xff\0\0\0\x02\0\x01i\0\0\0\x09\0\x01r";
        assert_eq!(brokers(answer), Some(vec![1, 2]));
        for length in 0..answer.len() {
            assert_eq!(brokers(&answer[..length]), None, "{length} bytes");
        }
    }
}
