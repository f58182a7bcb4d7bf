//! Arrays of key values as PostgreSQL writes them, as text `{1,"a b",NULL}` and in binary. Knows no types: an element is
//! its characters or its bytes, None for NULL.

/// None when the text is not a plain array: let nothing be concluded from it.
pub fn parse_text(text: &[u8]) -> Option<Vec<Option<Vec<u8>>>> {
    let mut reader = Reader {
        text: text.trim_ascii(),
        at: 0,
        elements: Vec::new(),
    };
    reader.braces(0)?;
    (reader.at == reader.text.len()).then_some(reader.elements)
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    elements: Vec<Option<Vec<u8>>>,
}

/// dimensions of an array in PostgreSQL
const DIMENSIONS_MAX: usize = 6;

impl Reader<'_> {
    fn braces(&mut self, depth: usize) -> Option<()> {
        if depth >= DIMENSIONS_MAX || self.next()? != b'{' {
            return None;
        }
        self.blanks();
        if self.peek()? == b'}' {
            self.at += 1;
            return Some(());
        }
        loop {
            self.blanks();
            match self.peek()? {
                b'{' => self.braces(depth + 1)?,
                b'"' => self.quoted()?,
                _ => self.bare()?,
            }
            self.blanks();
            match self.next()? {
                b',' => {}
                b'}' => return Some(()),
                _ => return None,
            }
        }
    }

    fn quoted(&mut self) -> Option<()> {
        self.at += 1;
        let mut element = Vec::new();
        loop {
            match self.next()? {
                b'"' => break,
                b'\\' => element.push(self.next()?),
                byte => element.push(byte),
            }
        }
        self.elements.push(Some(element));
        Some(())
    }

    fn bare(&mut self) -> Option<()> {
        let start = self.at;
        while !matches!(self.peek()?, b',' | b'}') {
            if matches!(self.peek()?, b'{' | b'"' | b'\\') {
                return None;
            }
            self.at += 1;
        }
        let element = self.text[start..self.at].trim_ascii_end();
        if element.is_empty() {
            return None;
        }
        self.elements
            .push((!element.eq_ignore_ascii_case(b"null")).then(|| element.to_vec()));
        Some(())
    }

    fn blanks(&mut self) {
        while self
            .peek()
            .is_some_and(|byte| byte.is_ascii_whitespace() || byte == 0x0b)
        {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        self.at += 1;
        self.text.get(self.at - 1).copied()
    }
}

/// A binary array: the element type's OID and the elements.
pub fn parse_binary(bytes: &[u8]) -> Option<(u32, Vec<Option<&[u8]>>)> {
    let mut rest = bytes;
    let dimensions = usize::try_from(int(&mut rest)?)
        .ok()
        .filter(|&n| n <= DIMENSIONS_MAX)?;
    int(&mut rest)?;
    let element_type = u32::from_be_bytes(int(&mut rest)?.to_be_bytes());
    let mut count = usize::from(dimensions > 0);
    for _ in 0..dimensions {
        count = count.checked_mul(usize::try_from(int(&mut rest)?).ok()?)?;
        int(&mut rest)?;
    }
    if count > bytes.len() {
        return None;
    }
    let mut elements = Vec::with_capacity(count);
    for _ in 0..count {
        let length = int(&mut rest)?;
        if length == -1 {
            elements.push(None);
            continue;
        }
        let (element, after) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        elements.push(Some(element));
        rest = after;
    }
    rest.is_empty().then_some((element_type, elements))
}

fn int(rest: &mut &[u8]) -> Option<i32> {
    let (head, tail) = rest.split_first_chunk::<4>()?;
    *rest = tail;
    Some(i32::from_be_bytes(*head))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(array: &str) -> Option<Vec<Option<String>>> {
        let string = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Some(
            parse_text(array.as_bytes())?
                .into_iter()
                .map(|e| e.map(string))
                .collect(),
        )
    }

    #[test]
    fn arrays_as_text() {
        let some = |s: &str| Some(s.to_owned());
        assert_eq!(text("{1, 2 ,NULL}"), Some(vec![some("1"), some("2"), None]));
        assert_eq!(
            text(r#"{"a,b","c\"d","NULL"}"#),
            Some(vec![some("a,b"), some("c\"d"), some("NULL")])
        );
        assert_eq!(text("{{1},{2}}"), Some(vec![some("1"), some("2")]));
        assert_eq!(text("{}"), Some(vec![]));
        for bad in [
            "",
            "1",
            "{1",
            "{1}}",
            "[0:1]={1,2}",
            "{1,}",
            "{{{{{{{1}}}}}}}",
        ] {
            assert_eq!(text(bad), None, "{bad}");
        }
    }

    #[test]
    fn arrays_in_binary() {
        let mut bytes = Vec::new();
        for n in [1_i32, 0, 20, 2, 1, 8] {
            bytes.extend(n.to_be_bytes());
        }
        bytes.extend(5_i64.to_be_bytes());
        bytes.extend((-1_i32).to_be_bytes());
        assert_eq!(
            parse_binary(&bytes),
            Some((20, vec![Some(&5_i64.to_be_bytes()[..]), None]))
        );
        assert_eq!(parse_binary(&bytes[..20]), None);
    }
}
