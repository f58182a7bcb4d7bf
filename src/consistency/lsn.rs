//! Where WAL pages begin, and what that means for positions. It knows sizes, not servers.

use super::Lsn;

/// Bytes of the header of an ordinary page, and of the first page of a segment.
const SHORT_HEADER: u64 = 24;
const LONG_HEADER: u64 = 40;

/// Sizes a server was built or initialised with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalLayout {
    /// `wal_block_size`, 8 KB unless built otherwise
    pub page: u64,
    /// `wal_segment_size`, 16 MB unless initdb was told otherwise
    pub segment: u64,
}

impl Default for WalLayout {
    fn default() -> Self {
        Self {
            page: 8 << 10,
            segment: 16 << 20,
        }
    }
}

impl WalLayout {
    /// An insert position lies past the header of a page that holds nothing yet, while replay, having shown everything,
    /// still stands at the page's start (hazard 26). No record ends inside a header, so both mean the same.
    #[must_use]
    pub fn normalise(self, raw: u64) -> Lsn {
        let in_page = raw.checked_rem(self.page).unwrap_or(0);
        let in_segment = raw.checked_rem(self.segment).unwrap_or(0);
        // 40 bytes into another page than a segment's first is a place where records do end
        if in_segment == LONG_HEADER {
            return Lsn(raw - LONG_HEADER);
        }
        if in_page == SHORT_HEADER {
            return Lsn(raw - SHORT_HEADER);
        }
        Lsn(raw)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(raw: u64) -> u64 {
        WalLayout::default().normalise(raw).0
    }

    #[test]
    fn headers_are_taken_off() {
        assert_eq!(normal(0x0500_0028), 0x0500_0000);
        assert_eq!(normal(0x0500_2018), 0x0500_2000);
        assert_eq!(normal(0x0500_0000), 0x0500_0000);
        assert_eq!(normal(0), 0);
    }

    #[test]
    fn real_ends_of_records_stay() {
        // 40 bytes into a page that begins no segment: 16 bytes of a continued record
        assert_eq!(normal(0x0500_2028), 0x0500_2028);
        assert_eq!(normal(0x0500_0060), 0x0500_0060);
        assert_eq!(normal(0x0500_2020), 0x0500_2020);
    }

    #[test]
    fn the_segment_size_decides() {
        let large = WalLayout {
            page: 8 << 10,
            segment: 64 << 20,
        };
        assert_eq!(large.normalise(0x0500_0028), Lsn(0x0500_0028));
        assert_eq!(large.normalise(0x0800_0028), Lsn(0x0800_0000));
        let broken = WalLayout {
            page: 0,
            segment: 0,
        };
        assert_eq!(broken.normalise(0x0500_0028), Lsn(0x0500_0028));
    }

    #[test]
    fn written_as_postgres_writes_it() {
        assert_eq!(Lsn(0x0500_0028).to_string(), "0/5000028");
        assert_eq!(Lsn(0x0000_0016_B374_D848).to_string(), "16/B374D848");
    }
}
