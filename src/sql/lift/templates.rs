//! Texts that were lifted lately, as templates: a text that differs from one only in plain literals is lifted by comparing
//! bytes, without being scanned. Only where that is safe: the literals are plain (digits, or a string without quotes,
//! backslashes and NUL inside), of the same kinds, and what stands next to them cannot become part of them.

use super::{Lifted, LiteralKind, Span};
use memchr::memchr3;
use parking_lot::Mutex;
use smallvec::SmallVec;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Longer texts are scanned each time.
const TEXT_MAX: usize = 2_048;
/// Texts with more literals too.
const SLOTS_MAX: usize = 32;
/// Bytes before the first literal by which a template is found.
const PREFIX_MAX: usize = 256;
/// Digits that fit an int4 whatever they are.
const INT4_DIGITS: usize = 9;
/// Templates that may share a beginning.
const WAYS: usize = 2;
const PLACES_MAX: usize = 512;

#[derive(Debug)]
pub(super) struct Template {
    text: Box<[u8]>,
    scs: bool,
    slots: SmallVec<[Span; 4]>,
    kinds: SmallVec<[LiteralKind; 4]>,
    fingerprint: u128,
}

type Place = Mutex<[Option<Arc<Template>>; WAYS]>;

/// The templates of one database, shared by its sessions.
pub struct Templates {
    places: Box<[Place]>,
}

impl Templates {
    /// At most `most` of them, and at most a thousand.
    #[must_use]
    pub fn new(most: usize) -> Self {
        let places = (most / WAYS).clamp(1, PLACES_MAX);
        Self {
            places: (0..places).map(|_| Mutex::default()).collect(),
        }
    }

    /// Lifts `text` as [`super::lift`] does.
    pub fn lift(&self, text: &[u8], scs: bool, out: &mut Lifted) {
        if text.len() > TEXT_MAX {
            super::lift(text, scs, out);
            return;
        }
        if let Some(like) = out.like.take()
            && like.scs == scs
            && like.fits(text, out)
        {
            out.like = Some(like);
            return;
        }
        let place = self.place(text, scs);
        let known = place.lock().clone();
        for template in known.into_iter().flatten() {
            if template.scs == scs && template.fits(text, out) {
                out.like = Some(template);
                return;
            }
        }
        if super::lift(text, scs, out)
            && let Some(template) = Template::of(text, scs, out)
        {
            let template = Arc::new(template);
            let mut ways = place.lock();
            ways.rotate_right(1);
            ways[0] = Some(template.clone());
            out.like = Some(template);
        }
    }

    fn place(&self, text: &[u8], scs: bool) -> &Place {
        let hash = xxh3_64_with_seed(prefix(text), u64::from(scs));
        &self.places[(hash % self.places.len() as u64) as usize]
    }
}

/// What stands before the first literal.
fn prefix(text: &[u8]) -> &[u8] {
    let mut word = false;
    let end = text.iter().take(PREFIX_MAX).position(|&byte| {
        let literal = byte == b'\'' || (byte.is_ascii_digit() && !word);
        word = is_word(byte);
        literal
    });
    &text[..end.unwrap_or(text.len().min(PREFIX_MAX))]
}

/// Could be part of a number or name that it stands next to.
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'$' | 0x80..)
}

impl Template {
    fn of(text: &[u8], scs: bool, lifted: &Lifted) -> Option<Self> {
        if lifted.slots.len() > SLOTS_MAX {
            return None;
        }
        for (slot, kind) in lifted.slots.iter().zip(&lifted.kinds) {
            let signed = text.get(slot.start) == Some(&b'-');
            // plain itself, so that others may stand in its place
            if literal_end(text, slot.start, *kind, signed)? != slot.end {
                return None;
            }
        }
        Some(Self {
            text: text.into(),
            scs,
            slots: lifted.slots.iter().copied().collect(),
            kinds: lifted.kinds.iter().copied().collect(),
            fingerprint: lifted.fingerprint,
        })
    }

    /// Whether `text` is this one up to its literals; then `out` is what lifting it gives.
    fn fits(&self, text: &[u8], out: &mut Lifted) -> bool {
        out.clear();
        let (mut at, mut before) = (0, 0);
        for (slot, kind) in self.slots.iter().zip(&self.kinds) {
            let between = &self.text[before..slot.start];
            if !text[at..].starts_with(between) {
                return false;
            }
            at += between.len();
            let signed = self.text[slot.start] == b'-';
            let Some(end) = literal_end(text, at, *kind, signed) else {
                return false;
            };
            out.slots.push(Span { start: at, end });
            out.kinds.push(*kind);
            (at, before) = (end, slot.end);
        }
        if text[at..] != self.text[before..] {
            return false;
        }
        out.fingerprint = self.fingerprint;
        true
    }
}

/// Where the plain literal that begins at `start` ends; None where there is no plain one of this kind.
fn literal_end(text: &[u8], start: usize, kind: LiteralKind, signed: bool) -> Option<usize> {
    match kind {
        LiteralKind::Int4 => {
            let first = if signed {
                (text.get(start) == Some(&b'-')).then_some(start + 1)?
            } else {
                start
            };
            let digits = text.get(first..)?.iter();
            let count = digits.take_while(|byte| byte.is_ascii_digit()).count();
            let end = first + count;
            let alone = text.get(end).is_none_or(|next| !is_word(*next));
            ((1..=INT4_DIGITS).contains(&count) && alone).then_some(end)
        }
        LiteralKind::String => {
            let inside = text.get(start..)?.strip_prefix(b"'")?;
            let length = memchr3(b'\'', b'\\', 0, inside)?;
            let end = start + 1 + length + 1;
            let closed = inside[length] == b'\'';
            (closed && text.get(end).is_none_or(|next| *next != b'\'')).then_some(end)
        }
        LiteralKind::Int8 | LiteralKind::Large | LiteralKind::Decimal => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXTS: [&str; 20] = [
        "select * from t where a between 5 and 5 + 200",
        "update t set n = n-5, m = m + 2 where k = 3*4",
        "select * from t where n like 'a%' and k = 1",
        "select * from t where k = -5 - 3 and not (b between 1 and 2 and c)",
        "SELECT abalance FROM t WHERE aid = 1;",
        "select * from t1 where a=2 and b = 'x' and c in (3,4)",
        "INSERT INTO t (a, b) VALUES (1, 'one'), (2, 'two')",
        "update t set v = 5 where k = -7",
        "select 1, 'a' from t where k = 3 limit 10",
        "select * from t where k = 1 or k = 2 order by 1",
        "select * from t where d = '2020-01-01'::date and k = 1",
        "select * from t where d = date '2020-01-01'",
        "select 'it''s' from t where a = 'b'",
        "select * from t where a = E'b' and c = 1",
        "select * from t where a = 'b'\n 'c' and d = 2",
        "delete from t where a = 12345678901",
        "select * from t where a = 1.5 and b = 2",
        "select * from t where a = 1and b = 2",
        "select * from \"t'1\" where a = 1 -- it's 5",
        "select * from t where a = 9 /* 'q' 7 */ and b = 'z'",
    ];

    const LITERALS: [&str; 22] = [
        "1",
        "0",
        "007",
        "999999999",
        "2147483648",
        "1234567890123",
        "1.5",
        "1e5",
        "0x1f",
        "-3",
        "- 3",
        "1_000",
        "'a'",
        "''",
        "'it''s'",
        "'b\\'",
        "'b\\n'",
        "E'x'",
        "'long string with 5 and -- dashes'",
        "'é'",
        "$1",
        "''''",
    ];

    fn lifted(text: &str) -> Lifted {
        let mut out = Lifted::default();
        super::super::lift(text.as_bytes(), true, &mut out);
        out
    }

    fn assert_same(templates: &Templates, text: &str, scs: bool) {
        let (mut by_template, mut by_scan) = (Lifted::default(), Lifted::default());
        // the second time by what was remembered
        templates.lift(text.as_bytes(), scs, &mut by_template);
        templates.lift(text.as_bytes(), scs, &mut by_template);
        super::super::lift(text.as_bytes(), scs, &mut by_scan);
        assert_eq!(by_template.fingerprint, by_scan.fingerprint, "{text}");
        assert_eq!(by_template.slots, by_scan.slots, "{text}");
        assert_eq!(by_template.kinds, by_scan.kinds, "{text}");
    }

    #[test]
    fn a_text_seen_before_is_not_scanned_again() {
        let text = "SELECT v FROM t WHERE k = 1 AND n = 'x'";
        let template = Template::of(text.as_bytes(), true, &lifted(text)).unwrap();
        let mut out = Lifted::default();
        let other = "SELECT v FROM t WHERE k = 4711 AND n = 'yes'";
        assert!(template.fits(other.as_bytes(), &mut out));
        assert_eq!(out.literal(other.as_bytes(), 1), Some(&b"'yes'"[..]));
        for strange in [
            "SELECT v FROM t WHERE k = 1.5 AND n = 'x'",
            "SELECT v FROM t WHERE k = 1 AND n = 'x' ",
            "SELECT v FROM t WHERE k = -1 AND n = 'x'",
            "SELECT v FROM t WHERE k = 1 AND n = 'x''y'",
            "SELECT v FROM t WHERE k = 12345678901 AND n = 'x'",
        ] {
            assert!(!template.fits(strange.as_bytes(), &mut out), "{strange}");
        }
    }

    proptest! {
        /// Whatever stands in the place of a literal, the outcome is that of lifting.
        #[test]
        fn templates_never_disagree_with_lifting(
            text in 0..TEXTS.len(),
            replacements in proptest::collection::vec((0_usize..8, 0..LITERALS.len()), 1..4),
            tail in "[ -~\n]{0,6}",
            scs in any::<bool>(),
        ) {
            let templates = Templates::new(4);
            let text = TEXTS[text];
            assert_same(&templates, text, scs);
            let spans = lifted(text).slots;
            let mut changed = text.to_owned();
            let mut places: Vec<_> = replacements.iter().filter(|(place, _)| *place < spans.len()).collect();
            places.sort_unstable_by_key(|(place, _)| std::cmp::Reverse(*place));
            places.dedup_by_key(|(place, _)| *place);
            for (place, literal) in places {
                changed.replace_range(spans[*place].start..spans[*place].end, LITERALS[*literal]);
            }
            assert_same(&templates, &changed, scs);
            changed.push_str(&tail);
            assert_same(&templates, &changed, scs);
            assert_same(&templates, text, scs);
        }
    }
}
