//! As much of HTTP as the local APIs need.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// For an API to answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// What an API says at a path. Blocks.
///
/// # Panics
/// If it does not answer with status 200.
pub fn get(address: SocketAddr, path: &str) -> String {
    let (status, body) = answer_to_get(address, path);
    assert_eq!(status, 200, "{path} at {address}: {body}");
    body
}

/// The same with the status, whatever it is. Blocks.
///
/// # Panics
/// If it does not answer.
pub fn answer_to_get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("the API listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("legal");
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("head and body");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.expect("a status"), body.to_owned())
}

/// What an API answers to a JSON body that is posted to a path. Blocks.
///
/// # Panics
/// If it does not answer with a status of success.
pub fn post(address: SocketAddr, path: &str, body: &str) -> String {
    let (status, answer) = answer_to_post(address, path, body);
    assert_eq!(status, 201, "{path} at {address}: {answer}");
    answer
}

/// The same with the status, whatever it is. Blocks.
///
/// # Panics
/// If it does not answer.
pub fn answer_to_post(address: SocketAddr, path: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("the API listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("legal");
    let length = body.len();
    write!(
        stream,
        "POST {path} HTTP/1.0\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("head and body");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.expect("a status"), body.to_owned())
}
