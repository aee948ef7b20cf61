//! Bounds on memory: what a reader may hold at once for bytes that somebody else wrote.

/// Runs a reader, which must not hold more than this many bytes at once.
///
/// # Panics
/// It did.
pub fn within<T>(most: usize, read: impl FnOnce() -> T) -> T {
    let mut result = None;
    let held = allocation_counter::measure(|| result = Some(read())).bytes_max;
    assert!(held <= most as u64, "{held} bytes were held at once, at most {most} may be");
    result.expect("the reader was run just above")
}
