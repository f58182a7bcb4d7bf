//! The packets of a client's start-up as values. Each is cut out by its length before pgwire sees it, so that pgwire,
//! which believes what lengths inside a message say, never reads past it. No I/O.

use bytes::{Buf, Bytes, BytesMut};
use pgwire::messages::startup::{
    NegotiateProtocolVersion, PasswordMessageFamily, SASLInitialResponse, Startup,
};
use pgwire::messages::{
    DecodeContext, PgWireFrontendMessage, ProtocolVersion, SslNegotiationMetaMessage,
};
use std::collections::BTreeMap;

use crate::wire::frame;

/// PostgreSQL's own limit for what it reads from strangers.
pub const PACKET_BYTES_MAX: usize = 10_000;
/// The newest minor version of protocol 3 that we speak, and what an older client gets.
const MINOR_NEWEST: u16 = 2;
const MINOR_OLDEST: u16 = 0;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartupError {
    #[error("invalid length of startup packet")]
    Length,
    #[error("invalid startup packet layout: expected terminator as last byte")]
    Layout,
    #[error("unsupported frontend protocol {0}.{1}: server supports 3.0 to 3.2")]
    Version(u16, u16),
    #[error("malformed startup packet: {0}")]
    Malformed(String),
    #[error("invalid length of password message")]
    PasswordLength,
    #[error("expected a password message, got {0:?}")]
    NotAPassword(char),
}

/// What a client may begin with.
#[derive(Debug, PartialEq, Eq)]
pub enum Opening {
    Tls,
    Gss,
    Cancel { pid: i32, secret: Vec<u8> },
    Start(Start),
}

#[derive(Debug, PartialEq, Eq)]
pub struct Start {
    /// as asked for
    pub minor: u16,
    /// all but `_pq_.` options
    pub parameters: BTreeMap<String, String>,
    /// names that begin with `_pq_.`: extensions of the protocol, of which we know none
    pub extensions: Vec<String>,
}

impl Start {
    /// The minor version this connection runs at.
    pub fn agreed_minor(&self) -> u16 {
        // 3.1 was never a protocol
        if self.minor >= MINOR_NEWEST {
            MINOR_NEWEST
        } else {
            MINOR_OLDEST
        }
    }

    /// What must be said when the client asked for more than it gets.
    pub fn negotiation(&self) -> Option<NegotiateProtocolVersion> {
        if self.agreed_minor() == self.minor && self.extensions.is_empty() {
            return None;
        }
        // the whole version, not the minor alone, whatever the documents say: PostgreSQL does, and libpq expects it
        let version = (3 << 16) | i32::from(self.agreed_minor());
        Some(NegotiateProtocolVersion::new(
            version,
            self.extensions.clone(),
        ))
    }
}

/// The first packet in `inbox`, if it is all there.
pub fn opening(inbox: &mut BytesMut) -> Result<Option<Opening>, StartupError> {
    let Some(mut packet) = packet(inbox)? else {
        return Ok(None);
    };
    let mut context = DecodeContext::new(ProtocolVersion::PROTOCOL3_2);
    match decode(&mut packet, &context)? {
        PgWireFrontendMessage::SslNegotiation(SslNegotiationMetaMessage::PostgresSsl(_)) => {
            Ok(Some(Opening::Tls))
        }
        PgWireFrontendMessage::SslNegotiation(SslNegotiationMetaMessage::PostgresGss(_)) => {
            Ok(Some(Opening::Gss))
        }
        _ => {
            context.awaiting_frontend_ssl = false;
            begin(&mut packet, &context).map(Some)
        }
    }
}

fn begin(packet: &mut BytesMut, context: &DecodeContext) -> Result<Opening, StartupError> {
    let last = packet.last().copied();
    let major = u16::from_be_bytes([packet[4], packet[5]]);
    let minor = u16::from_be_bytes([packet[6], packet[7]]);
    // 1234 is the number of requests that are not a start
    if major != 3 && major != 1234 {
        return Err(StartupError::Version(major, minor));
    }
    match decode(packet, context)? {
        PgWireFrontendMessage::CancelRequest(cancel) => Ok(Opening::Cancel {
            pid: cancel.pid,
            secret: cancel.secret_key.to_bytes().to_vec(),
        }),
        // what pgwire left over came after the empty name that ends the list
        PgWireFrontendMessage::Startup(_) if !packet.is_empty() || last != Some(0) => {
            Err(StartupError::Layout)
        }
        PgWireFrontendMessage::Startup(startup) => Ok(Opening::Start(start(startup))),
        _ => Err(StartupError::Malformed("not a startup packet".to_owned())),
    }
}

fn start(startup: Startup) -> Start {
    let minor = startup.protocol_number_minor;
    let mut parameters = startup.parameters;
    let is_extension = |name: &String| name.starts_with("_pq_.");
    let extensions: Vec<_> = parameters
        .keys()
        .filter(|name| is_extension(name))
        .cloned()
        .collect();
    if !extensions.is_empty() {
        parameters.retain(|name, _| !is_extension(name));
    }
    Start {
        minor,
        parameters,
        extensions,
    }
}

/// Cuts out a packet without a tag.
fn packet(inbox: &mut BytesMut) -> Result<Option<BytesMut>, StartupError> {
    let Some(length) = inbox.first_chunk::<4>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes(*length) as usize;
    if !(8..=PACKET_BYTES_MAX).contains(&length) {
        return Err(StartupError::Length);
    }
    Ok((inbox.len() >= length).then(|| inbox.split_to(length)))
}

fn decode(
    packet: &mut BytesMut,
    context: &DecodeContext,
) -> Result<PgWireFrontendMessage, StartupError> {
    match PgWireFrontendMessage::decode(packet, context) {
        Ok(Some(message)) => Ok(message),
        Ok(None) => Err(StartupError::Length),
        Err(error) => Err(StartupError::Malformed(error.to_string())),
    }
}

/// The next password message in `inbox`, if it is all there.
pub fn password_message(
    inbox: &mut BytesMut,
) -> Result<Option<PasswordMessageFamily>, StartupError> {
    // a stranger's tag is looked at before a length is waited for
    if let Some(tag) = inbox.first().filter(|tag| **tag != b'p') {
        return Err(StartupError::NotAPassword(char::from(*tag)));
    }
    let header =
        frame::header(inbox, PACKET_BYTES_MAX).map_err(|_| StartupError::PasswordLength)?;
    let Some(header) = header.filter(|header| inbox.len() >= header.len) else {
        return Ok(None);
    };
    let mut message = inbox.split_to(header.len);
    let mut context = DecodeContext::new(ProtocolVersion::PROTOCOL3_2);
    context.awaiting_frontend_ssl = false;
    context.awaiting_frontend_startup = false;
    match decode(&mut message, &context)? {
        PgWireFrontendMessage::PasswordMessageFamily(message) => Ok(Some(message)),
        _ => Err(StartupError::Malformed("not a password message".to_owned())),
    }
}

/// The client's choice of a mechanism and its first message. The length inside is checked here: pgwire panics on one that
/// lies.
pub fn sasl_initial(message: PasswordMessageFamily) -> Result<SASLInitialResponse, StartupError> {
    let broken = || StartupError::Malformed("SASLInitialResponse".to_owned());
    let PasswordMessageFamily::Raw(body) = message else {
        return Err(broken());
    };
    let mut body = body.freeze();
    let name_end = body.iter().position(|byte| *byte == 0).ok_or_else(broken)?;
    let name = String::from_utf8(body.split_to(name_end).to_vec()).map_err(|_| broken())?;
    body.advance(1);
    if body.len() < 4 {
        return Err(broken());
    }
    let data = match body.get_i32() {
        -1 if body.is_empty() => None,
        length if usize::try_from(length) == Ok(body.len()) => Some(body),
        _ => return Err(broken()),
    };
    Ok(SASLInitialResponse::new(name, data))
}

pub fn sasl_response(message: PasswordMessageFamily) -> Result<Bytes, StartupError> {
    let response = message.into_sasl_response();
    response
        .map(|response| response.data)
        .map_err(|error| StartupError::Malformed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BufMut;
    use proptest::prelude::*;

    fn packet_of(code: u32, body: &[u8]) -> BytesMut {
        let mut packet = BytesMut::new();
        packet.put_u32(8 + body.len() as u32);
        packet.put_u32(code);
        packet.put_slice(body);
        packet
    }

    fn start_of(code: u32, body: &[u8]) -> Start {
        match opening(&mut packet_of(code, body)) {
            Ok(Some(Opening::Start(start))) => start,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_startup_packet_gives_its_parameters() {
        let start = start_of(
            196_608,
            b"user\0app\0options\0-c geqo=off\0application_name\0\0\0",
        );
        assert_eq!(start.parameters["user"], "app");
        assert_eq!(start.parameters["options"], "-c geqo=off");
        assert_eq!(start.parameters["application_name"], "");
        assert_eq!((start.agreed_minor(), start.negotiation()), (0, None));
    }

    #[test]
    fn versions_are_negotiated_down_and_extensions_refused() {
        assert_eq!(start_of(196_610, b"user\0app\0\0").negotiation(), None);
        let newer = start_of(196_608 + 9_999, b"user\0app\0_pq_.compression\0on\0\0");
        let answer = newer.negotiation().unwrap();
        assert_eq!(
            (newer.agreed_minor(), answer.newest_minor_protocol),
            (2, 196_610)
        );
        assert_eq!(answer.unsupported_options, ["_pq_.compression"]);
        assert!(!newer.parameters.contains_key("_pq_.compression"));
        assert_eq!(start_of(196_609, b"user\0app\0\0").agreed_minor(), 0);
        let old = start_of(196_608, b"user\0app\0_pq_.x\0\0\0");
        assert_eq!(old.negotiation().unwrap().newest_minor_protocol, 196_608);
    }

    #[test]
    fn requests_of_all_kinds_are_told_apart() {
        assert_eq!(
            opening(&mut packet_of(80_877_103, b"")),
            Ok(Some(Opening::Tls))
        );
        assert_eq!(
            opening(&mut packet_of(80_877_104, b"")),
            Ok(Some(Opening::Gss))
        );
        let short = Opening::Cancel {
            pid: 7,
            secret: vec![1, 2, 3, 4],
        };
        assert_eq!(
            opening(&mut packet_of(80_877_102, &[0, 0, 0, 7, 1, 2, 3, 4])),
            Ok(Some(short))
        );
        let mut long = vec![0, 0, 0, 9];
        long.extend([5; 32]);
        let expected = Opening::Cancel {
            pid: 9,
            secret: vec![5; 32],
        };
        assert_eq!(
            opening(&mut packet_of(80_877_102, &long)),
            Ok(Some(expected))
        );
    }

    #[test]
    fn what_follows_a_packet_stays() {
        let mut inbox = packet_of(196_608, b"user\0app\0\0");
        inbox.put_slice(b"Q\0\0");
        assert!(matches!(opening(&mut inbox), Ok(Some(Opening::Start(_)))));
        assert_eq!(&inbox[..], b"Q\0\0");
        let mut partly = packet_of(196_608, b"user\0app\0\0");
        partly.truncate(15);
        assert_eq!(opening(&mut partly), Ok(None));
    }

    #[test]
    fn broken_packets_are_refused() {
        assert_eq!(
            opening(&mut BytesMut::from(&b"GET / HTTP/1.1\r\n"[..])),
            Err(StartupError::Length)
        );
        assert_eq!(
            opening(&mut BytesMut::from(&[0, 0, 0, 4][..])),
            Err(StartupError::Length)
        );
        assert_eq!(
            opening(&mut BytesMut::from(&[0xff, 0xff, 0xff, 0xff][..])),
            Err(StartupError::Length)
        );
        assert_eq!(
            opening(&mut packet_of(131_072, b"x\0\0")),
            Err(StartupError::Version(2, 0))
        );
        assert_eq!(
            opening(&mut packet_of(262_144, b"x\0\0")),
            Err(StartupError::Version(4, 0))
        );
        assert_eq!(
            opening(&mut packet_of(196_608, b"user\0app")),
            Err(StartupError::Layout)
        );
        assert_eq!(
            opening(&mut packet_of(196_608, b"user\0app\0\0more\0")),
            Err(StartupError::Layout)
        );
        assert!(opening(&mut packet_of(196_608, b"")).is_err());
        assert!(opening(&mut packet_of(80_877_102, &[0, 0, 0, 7])).is_err());
        assert!(opening(&mut packet_of(80_877_102, &[0; 300])).is_err());
    }

    #[test]
    fn lengths_inside_a_sasl_message_are_checked() {
        let body = |length: i32, data: &[u8]| {
            let mut body = BytesMut::from(&b"SCRAM-SHA-256\0"[..]);
            body.put_i32(length);
            body.put_slice(data);
            sasl_initial(PasswordMessageFamily::Raw(body))
        };
        assert_eq!(body(3, b"abc").unwrap().data.as_deref(), Some(&b"abc"[..]));
        assert_eq!(body(-1, b"").unwrap().data, None);
        for (length, data) in [
            (4, &b"abc"[..]),
            (-2, b""),
            (i32::MAX, b"abc"),
            (-1, b"abc"),
            (2, b"abc"),
        ] {
            assert!(body(length, data).is_err(), "{length}");
        }
        assert!(
            sasl_initial(PasswordMessageFamily::Raw(BytesMut::from(
                &b"SCRAM-SHA-256\0\0"[..]
            )))
            .is_err()
        );
        assert!(sasl_initial(PasswordMessageFamily::Raw(BytesMut::from(&b"SCRAM"[..]))).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(code in prop_oneof![Just(80_877_102u32), Just(196_608), Just(196_610), any::<u32>()],
                          body in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = opening(&mut packet_of(code, &body));
            let _ = opening(&mut BytesMut::from(&body[..]));
            let mut tagged = BytesMut::from(&b"p"[..]);
            tagged.put_u32(4 + body.len() as u32);
            tagged.put_slice(&body);
            if let Ok(Some(message)) = password_message(&mut tagged) {
                let _ = sasl_initial(message);
            }
            let mut raw = BytesMut::from(&b"p"[..]);
            raw.put_slice(&body);
            let _ = password_message(&mut raw);
        }
    }
}
