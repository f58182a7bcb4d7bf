//! Which of the idle servers somebody would like to have again, and who gets which. A wish costs nobody a wait: a server
//! that is kept is lent like any other where there is no other.

use super::lease::Borrower;
use std::num::NonZeroU64;

#[derive(Default)]
pub(super) struct Wishes {
    /// somebody has once asked for what was kept: it is worth a dial
    pub asked: bool,
    /// wishes for servers that are lent
    lent: Vec<NonZeroU64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Choice {
    pub index: usize,
    pub kept_for_another: bool,
}

/// Among the idle, the one used last standing last: the borrower's own, else one that nobody wants, else the one that was
/// used longest ago.
pub(super) fn choose(
    idle: impl DoubleEndedIterator<Item = Borrower> + ExactSizeIterator,
    whose: Borrower,
) -> Option<Choice> {
    let mut free = None;
    let mut oldest = None;
    for (index, wanted_by) in idle.enumerate().rev() {
        // where nobody wants anything the first one looked at is it
        if wanted_by == whose {
            return Some(Choice::of(index, false));
        }
        if wanted_by.is_none() {
            free = free.or(Some(index));
        }
        oldest = Some(index);
    }
    let free = free.map(|index| Choice::of(index, false));
    free.or_else(|| oldest.map(|index| Choice::of(index, true)))
}

impl Wishes {
    /// A server leaves the idle with this wish on it.
    pub fn note_lent(&mut self, wanted_by: Borrower) {
        self.lent.extend(wanted_by);
    }

    /// It was closed, or comes back. True when somebody has waited for that.
    pub fn note_back(&mut self, lent_as: Borrower) -> bool {
        let place = |whose| self.lent.iter().position(|lent| *lent == whose);
        let place = lent_as.and_then(place);
        place.map(|place| self.lent.swap_remove(place)).is_some()
    }

    pub fn is_lent(&self, whose: NonZeroU64) -> bool {
        self.lent.contains(&whose)
    }

    /// Whoever had this wish has gone.
    pub fn forget(&mut self, whose: NonZeroU64) {
        self.lent.retain(|lent| *lent != whose);
    }
}

impl Choice {
    fn of(index: usize, kept_for_another: bool) -> Self {
        Self {
            index,
            kept_for_another,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u64) -> Borrower {
        NonZeroU64::new(n)
    }

    fn chosen(idle: &[Borrower], whose: Borrower) -> Option<(usize, bool)> {
        let choice = choose(idle.iter().copied(), whose);
        choice.map(|choice| (choice.index, choice.kept_for_another))
    }

    #[test]
    fn ones_own_first_then_what_nobody_wants_then_what_was_used_longest_ago() {
        assert_eq!(chosen(&[], id(1)), None);
        assert_eq!(chosen(&[None, None], None), Some((1, false)));
        assert_eq!(chosen(&[id(1), None, None], id(1)), Some((0, false)));
        assert_eq!(chosen(&[None, id(2), id(1)], None), Some((0, false)));
        assert_eq!(chosen(&[None, None, id(2)], id(1)), Some((1, false)));
        assert_eq!(chosen(&[id(3), id(2)], id(1)), Some((0, true)));
        assert_eq!(chosen(&[id(3), id(2)], None), Some((0, true)));
    }

    #[test]
    fn a_wish_ends_with_the_borrower() {
        let mut wishes = Wishes::default();
        wishes.note_lent(id(1));
        wishes.note_lent(id(2));
        wishes.note_lent(None);
        assert!(wishes.is_lent(NonZeroU64::MIN));
        wishes.forget(NonZeroU64::MIN);
        assert!(!wishes.is_lent(NonZeroU64::MIN));
        assert!(!wishes.note_back(id(1)) && wishes.note_back(id(2)) && !wishes.note_back(None));
        assert!(wishes.lent.is_empty());
    }
}
