//! The hashes of ids in the order in which they came.

use std::collections::VecDeque;

use super::IdHash;

/// Hashes in the order in which they came, numbered from 0 on and, after 2^32 of them, again: far
/// fewer are there at a time.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// All but the last are full: nothing is moved when it grows.
    pieces: VecDeque<Vec<IdHash>>,
    /// How many of the first piece are gone.
    gone: usize,
    /// The number of the first piece's first.
    first: u32,
    len: usize,
}

/// Hashes in a piece.
pub(super) const PIECE: usize = 1 << 10;

impl Order {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The number of the next.
    pub(super) fn next(&self) -> u32 {
        // Numbers wrap.
        self.first.wrapping_add((self.gone + self.len) as u32)
    }

    /// The hash of that number; 0 for one that is gone.
    pub(super) fn get(&self, number: u32) -> IdHash {
        let at = number.wrapping_sub(self.first) as usize;
        let piece = self.pieces.get(at / PIECE);
        piece.and_then(|piece| piece.get(at % PIECE)).copied().unwrap_or(0)
    }

    pub(super) fn push(&mut self, hash: IdHash) {
        match self.pieces.back_mut() {
            Some(piece) if piece.len() < PIECE => piece.push(hash),
            _ => {
                let mut piece = Vec::with_capacity(PIECE);
                piece.push(hash);
                self.pieces.push_back(piece);
            }
        }
        self.len += 1;
    }

    /// So many of the oldest, with their numbers.
    pub(super) fn oldest(&self, count: usize) -> impl Iterator<Item = (u32, IdHash)> {
        let hashes = self.pieces.iter().flatten().skip(self.gone).take(count);
        let first = self.first.wrapping_add(self.gone as u32);
        hashes.zip(0..).map(move |(hash, at)| (first.wrapping_add(at), *hash))
    }

    /// Takes the oldest.
    pub(super) fn pop(&mut self) -> Option<(u32, IdHash)> {
        let oldest = *self.pieces.front()?.get(self.gone)?;
        let number = self.first.wrapping_add(self.gone as u32);
        self.gone += 1;
        self.len -= 1;
        if self.gone == PIECE {
            self.pieces.pop_front();
            self.first = self.first.wrapping_add(PIECE as u32);
            self.gone = 0;
        }
        Some((number, oldest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_wrap_name_the_same_ids() {
        let mut order = Order { first: u32::MAX - 1, ..Order::default() };
        (1..=5).for_each(|hash| order.push(hash));
        assert_eq!((order.next(), order.get(u32::MAX), order.get(2)), (3, 2, 5));
        assert_eq!((order.pop(), order.pop()), (Some((u32::MAX - 1, 1)), Some((u32::MAX, 2))));
        assert_eq!((order.pop(), order.get(2), order.get(3)), (Some((0, 3)), 5, 0));
    }
}
