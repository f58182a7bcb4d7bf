//! A session's portals by name. The unnamed one, which nearly every batch uses, needs no table.

use super::{FastMap, Portal};
use bytes::Bytes;

#[derive(Default)]
pub struct Portals {
    unnamed: Option<Portal>,
    /// most clients have none
    named: Option<Box<FastMap<Bytes, Portal>>>,
}

impl Portals {
    #[must_use]
    pub fn get(&self, name: &[u8]) -> Option<&Portal> {
        if name.is_empty() {
            self.unnamed.as_ref()
        } else {
            self.named.as_ref()?.get(name)
        }
    }

    pub fn insert(&mut self, name: Bytes, portal: Portal) {
        if name.is_empty() {
            self.unnamed = Some(portal);
        } else {
            self.named.get_or_insert_default().insert(name, portal);
        }
    }

    pub fn remove(&mut self, name: &[u8]) -> Option<Portal> {
        if name.is_empty() {
            self.unnamed.take()
        } else {
            self.named.as_mut()?.remove(name)
        }
    }

    #[must_use]
    pub fn len(&self) -> usize {
        let named = self.named.as_ref().map_or(0, |named| named.len());
        named + usize::from(self.unnamed.is_some())
    }

    pub fn iter(&self) -> impl Iterator<Item = &Portal> {
        self.unnamed.iter().chain(self.named())
    }

    fn named(&self) -> impl Iterator<Item = &Portal> {
        self.named.iter().flat_map(|named| named.values())
    }

    pub fn retain(&mut self, keep: impl Fn(&Portal) -> bool) {
        self.unnamed.take_if(|portal| !keep(portal));
        if let Some(named) = &mut self.named {
            named.retain(|_, portal| keep(portal));
        }
    }

    /// Forgets them all, and the room they took.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}
