//! Buffers that connections borrow while they have something to hold, so that a busy shard does not
//! allocate and a quiet connection holds nothing.

/// Buffers kept for reuse.
const BUFFERS_MAX: usize = 1024;
/// A buffer that has grown larger is not kept.
const BUFFER_BYTES_MAX: usize = 64 * 1024;
/// Capacity of a new buffer.
const BUFFER_BYTES: usize = 512;

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Pool {
    spare: Vec<Vec<u8>>,
}

impl Pool {
    /// An empty buffer with room.
    #[inline]
    pub fn take(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_else(|| Vec::with_capacity(BUFFER_BYTES))
    }

    /// Takes a buffer back.
    #[inline]
    pub fn give(&mut self, mut buffer: Vec<u8>) {
        let is_worth_it = (1..=BUFFER_BYTES_MAX).contains(&buffer.capacity());
        if is_worth_it && self.spare.len() < BUFFERS_MAX {
            buffer.clear();
            self.spare.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_back_what_it_took_and_keeps_no_giants() {
        let mut pool = Pool::default();
        let mut buffer = pool.take();
        buffer.extend_from_slice(b"bytes");
        let at = buffer.as_ptr();
        pool.give(buffer);
        pool.give(Vec::with_capacity(BUFFER_BYTES_MAX + 1));
        pool.give(Vec::new());
        let again = pool.take();
        assert!(again.is_empty() && again.as_ptr() == at);
        assert!(pool.spare.is_empty());
    }
}
