//! What a reader has read ahead, in memory that a direct read fills without a copy.

use std::io;

use super::disk::{ALIGNMENT, DiskFile};

/// Bytes of a file from the reader's place on.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    memory: Vec<u8>,
    start: usize,
    end: usize,
}

impl Ahead {
    /// What was read and not taken.
    pub fn bytes(&self) -> &[u8] {
        &self.memory[self.start..self.end]
    }

    /// Forgets it.
    pub fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
    }

    /// Other bytes in its place.
    pub fn set(&mut self, bytes: Vec<u8>) {
        (self.start, self.end, self.memory) = (0, bytes.len(), bytes);
    }

    /// Takes so many of them. Panics where there are fewer, as slicing does.
    pub fn take(&mut self, bytes: usize) -> &[u8] {
        let taken = self.start..self.start + bytes;
        self.start = taken.end;
        &self.memory[taken]
    }

    /// Reads so many more from the file's `offset`, or up to its end; returns how many came.
    ///
    /// # Errors
    /// What the system said; then nothing was added.
    pub fn fill(&mut self, file: &dyn DiskFile, offset: u64, more: usize) -> io::Result<usize> {
        let have = self.end - self.start;
        let room = have + more + ALIGNMENT;
        if self.memory.len() < room {
            let mut memory = vec![0; room];
            memory[..have].copy_from_slice(self.bytes());
            (self.start, self.end, self.memory) = (0, have, memory);
        }
        // What is read lies in memory as it lies in the file.
        let aligned = self.memory.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        let start =
            (aligned + offset as usize % ALIGNMENT + ALIGNMENT - have % ALIGNMENT) % ALIGNMENT;
        self.memory.copy_within(self.start..self.end, start);
        (self.start, self.end) = (start, start + have);
        let read = file.read_full_at(&mut self.memory[self.end..self.end + more], offset)?;
        self.end += read;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::super::disk::{Disk, How, OsDisk};
    use super::*;

    #[test]
    fn what_is_taken_is_what_the_file_has_from_any_place_on_in_any_pieces() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let written: Vec<u8> = (0..100_000_u32).map(|n| (n % 251) as u8).collect();
        std::fs::write(&path, &written).unwrap();
        let file = OsDisk.open(&path, How::Direct).unwrap();
        for (from, piece, taken) in [(0, 8192, 4096), (1, 1000, 999), (4096, 5, 1), (777, 9000, 1)]
        {
            let (mut ahead, mut offset, mut place) = (Ahead::default(), from, from);
            for _ in 0..9 {
                offset += ahead.fill(&*file, offset as u64, piece).unwrap();
                assert_eq!(ahead.bytes(), &written[place..offset]);
                assert_eq!(ahead.take(taken), &written[place..place + taken]);
                place += taken;
            }
        }
    }
}
