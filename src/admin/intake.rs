//! Messages off an authenticated client's stream, each checked as a whole before pgwire looks into it: its decoders
//! take counts and lengths on trust, and its limits are those of a gigabyte. It does not know what is asked.

use crate::wire::frame;
use bytes::{Buf, Bytes, BytesMut};
use pgwire::messages::{DecodeContext, PgWireFrontendMessage, ProtocolVersion};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt};

/// No command of the console is longer.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("{0}")]
    Violation(String),
}

/// The next message; None at the end of the stream.
pub async fn next<S: AsyncRead + Unpin>(
    stream: &mut S,
    buffer: &mut BytesMut,
) -> Result<Option<PgWireFrontendMessage>, IntakeError> {
    loop {
        let header = frame::header(buffer, MESSAGE_BYTES_MAX)
            .map_err(|e| IntakeError::Violation(e.to_string()))?;
        if let Some(header) = header.filter(|header| buffer.len() >= header.len) {
            return decode(header.tag, buffer.split_to(header.len)).map(Some);
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

fn decode(tag: u8, mut message: BytesMut) -> Result<PgWireFrontendMessage, IntakeError> {
    let body = Bytes::copy_from_slice(&message[frame::HEADER..]);
    if well_formed(tag, body) != Some(true) {
        return Err(IntakeError::Violation(format!(
            "invalid message of type {tag:#04x}"
        )));
    }
    let mut context = DecodeContext::new(ProtocolVersion::PROTOCOL3_0);
    context.awaiting_frontend_ssl = false;
    context.awaiting_frontend_startup = false;
    match PgWireFrontendMessage::decode(&mut message, &context) {
        Ok(Some(decoded)) => Ok(decoded),
        Ok(None) => Err(IntakeError::Violation("incomplete message".to_owned())),
        Err(error) => Err(IntakeError::Violation(error.to_string())),
    }
}

/// Is the body exactly what its type says? None when it ends too early or the type is none that belongs here.
fn well_formed(tag: u8, mut body: Bytes) -> Option<bool> {
    match tag {
        b'Q' => cstring(&mut body)?,
        b'P' => parse(&mut body)?,
        b'B' => bind(&mut body)?,
        b'D' | b'C' => described(&mut body)?,
        b'E' => {
            cstring(&mut body)?;
            skip(&mut body, 4)?;
        }
        b'H' | b'S' | b'X' => {}
        // left over from a COPY or a login that is none: harmless, and ignored like in Postgres
        b'd' | b'c' => body.clear(),
        _ => return None,
    }
    Some(body.is_empty())
}

fn parse(body: &mut Bytes) -> Option<()> {
    cstring(body)?;
    cstring(body)?;
    let types = count(body)?;
    skip(body, types * 4)
}

fn bind(body: &mut Bytes) -> Option<()> {
    cstring(body)?;
    cstring(body)?;
    let formats = count(body)?;
    skip(body, formats * 2)?;
    for _ in 0..count(body)? {
        if let Ok(length) = usize::try_from(body.try_get_i32().ok()?) {
            skip(body, length)?;
        }
    }
    let formats = count(body)?;
    skip(body, formats * 2)
}

fn described(body: &mut Bytes) -> Option<()> {
    matches!(body.try_get_u8().ok()?, b'S' | b'P').then_some(())?;
    cstring(body)
}

fn cstring(body: &mut Bytes) -> Option<()> {
    let end = body.iter().position(|byte| *byte == 0)?;
    skip(body, end + 1)
}

fn count(body: &mut Bytes) -> Option<usize> {
    body.try_get_u16().ok().map(usize::from)
}

fn skip(body: &mut Bytes, bytes: usize) -> Option<()> {
    (bytes <= body.len()).then(|| body.advance(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BufMut;

    fn framed(tag: u8, body: &[u8]) -> BytesMut {
        let mut message = BytesMut::new();
        message.put_u8(tag);
        message.put_i32(body.len() as i32 + 4);
        message.put_slice(body);
        message
    }

    fn decoded(tag: u8, body: &[u8]) -> Result<PgWireFrontendMessage, IntakeError> {
        decode(tag, framed(tag, body))
    }

    #[test]
    fn whole_messages_pass() {
        let messages: [(u8, &[u8]); 9] = [
            (b'Q', b"SHOW POOLS\0"),
            (b'P', b"s\0SHOW POOLS\0\0\x01\0\0\0\x17"),
            (
                b'B',
                b"\0s\0\0\x01\0\x01\0\x02\0\0\0\x02ab\xff\xff\xff\xff\0\x01\0\0",
            ),
            (b'D', b"Ss\0"),
            (b'C', b"P\0"),
            (b'E', b"\0\0\0\0\0"),
            (b'S', b""),
            (b'H', b""),
            (b'X', b""),
        ];
        for (tag, body) in messages {
            assert!(decoded(tag, body).is_ok(), "{} {body:?}", tag as char);
        }
    }

    #[test]
    fn a_message_cut_short_anywhere_is_an_error_and_never_a_panic() {
        let messages: [(u8, &[u8]); 5] = [
            (b'Q', b"SHOW POOLS\0"),
            (b'P', b"s\0SHOW POOLS\0\0\x01\0\0\0\x17"),
            (
                b'B',
                b"\0s\0\0\x01\0\x01\0\x02\0\0\0\x02ab\xff\xff\xff\xff\0\x01\0\0",
            ),
            (b'D', b"Ss\0"),
            (b'E', b"\0\0\0\0\0"),
        ];
        for (tag, body) in messages {
            for end in 0..body.len() {
                assert!(
                    decoded(tag, &body[..end]).is_err(),
                    "{} {:?}",
                    tag as char,
                    &body[..end]
                );
            }
            assert!(
                decoded(tag, &[body, b"\0"].concat()).is_err(),
                "trailing byte"
            );
        }
    }

    #[test]
    fn what_does_not_belong_here_is_an_error() {
        for tag in [b'F', b'p', b'f', b'R', 0, 255] {
            assert!(decoded(tag, b"\0\0\0\0").is_err());
        }
        assert!(decoded(b'D', b"Xs\0").is_err());
    }

    #[tokio::test]
    async fn long_messages_are_refused_by_their_header() {
        let mut stream: &[u8] = b"Q\x3f\xff\xff\xff";
        let found = next(&mut stream, &mut BytesMut::new()).await;
        assert!(matches!(found, Err(IntakeError::Violation(_))));
        let mut ended: &[u8] = b"Q\0\0";
        assert!(matches!(
            next(&mut ended, &mut BytesMut::new()).await,
            Ok(None)
        ));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_a_decoder_panic(
            tag in proptest::sample::select(b"QPBDCEHSXdcFpf".to_vec()),
            body in proptest::collection::vec(proptest::prop_oneof![
                4 => proptest::strategy::Just(0_u8),
                2 => 1..5_u8,
                1 => proptest::strategy::Just(b'S'),
                1 => proptest::strategy::Just(255_u8),
                1 => proptest::num::u8::ANY,
            ], 0..24),
        ) {
            let _ = decoded(tag, &body);
        }
    }
}
