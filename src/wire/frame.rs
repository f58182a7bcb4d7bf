//! Frames are found by their headers alone: tag, length, and nothing else is looked at.

/// Bytes of a header: tag and length.
pub const HEADER: usize = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub tag: u8,
    /// whole frame, tag included
    pub len: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("message length {0} is smaller than 4")]
    TooShort(i32),
    #[error("message length {0} is over the limit")]
    TooLong(usize),
}

/// The header at the start of `buf`, if it is all there. `max` bounds the whole frame.
pub fn header(buf: &[u8], max: usize) -> Result<Option<Header>, FrameError> {
    if buf.len() < HEADER {
        return Ok(None);
    }
    let length = i32::from_be_bytes([buf[1], buf[2], buf[3], buf[4]]);
    let Ok(body) = usize::try_from(length) else {
        return Err(FrameError::TooShort(length));
    };
    if body < 4 {
        return Err(FrameError::TooShort(length));
    }
    if body >= max {
        return Err(FrameError::TooLong(body + 1));
    }
    Ok(Some(Header {
        tag: buf[0],
        len: body + 1,
    }))
}
