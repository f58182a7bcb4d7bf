//! Whom a client's certificate names. That it is genuine has been proven in the TLS handshake; here only the common name
//! (CN) of its subject is read.

use x509_cert::Certificate;
use x509_cert::der::asn1::{Ia5StringRef, PrintableStringRef, TeletexStringRef, Utf8StringRef};
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::{Decode, Tag, Tagged};

const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

/// The CN of a certificate (DER), the first where it has several, as PostgreSQL reads it. None without one, and for one with
/// a zero byte, behind which another name could hide.
#[must_use]
pub fn common_name(certificate: &[u8]) -> Option<String> {
    let certificate = Certificate::from_der(certificate).ok()?;
    let subject = &certificate.tbs_certificate.subject;
    let mut names = subject.0.iter().flat_map(|rdn| rdn.0.iter());
    let value = &names.find(|name| name.oid == COMMON_NAME)?.value;
    let name = match value.tag() {
        Tag::Utf8String => value.decode_as::<Utf8StringRef<'_>>().ok()?.to_string(),
        Tag::PrintableString => value
            .decode_as::<PrintableStringRef<'_>>()
            .ok()?
            .to_string(),
        Tag::Ia5String => value.decode_as::<Ia5StringRef<'_>>().ok()?.to_string(),
        Tag::TeletexString => value.decode_as::<TeletexStringRef<'_>>().ok()?.to_string(),
        _ => return None,
    };
    (!name.is_empty() && !name.contains('\0')).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::common_name;

    #[test]
    fn what_is_no_certificate_names_nobody() {
        assert_eq!(common_name(b""), None);
        assert_eq!(common_name(&[0x30, 0x03, 0x02, 0x01, 0x00]), None);
    }
}
