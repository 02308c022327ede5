//! Names as files give them: look-up, duplicates, and a safe way to print them.

pub(crate) use crate::error::{clipped, shown};
use std::cmp::Reverse;
use std::hash::{BuildHasher, Hasher, RandomState};

/// Finds a name's position among many in constant time, with 9 to 10 bytes for each.
///
/// The names stay where they are; a closure shows them by position. A hash table takes as much and
/// longer to fill: what is sorted is written in order.
#[derive(Debug, Default)]
pub(crate) struct NameIndex {
    /// The upper half of the name's hash, then its position; sorted.
    slots: Vec<u64>,
    /// Where the slots of each bucket begin, and where the last ends. A bucket is what the highest
    /// bits of the hash say, for four names or so.
    buckets: Vec<u32>,
    /// Keyed anew in every process, so that no file can be made of colliding names.
    hasher: RandomState,
}

impl NameIndex {
    /// Indexes `len` names.
    ///
    /// # Errors
    /// The first position whose name occurred before.
    pub fn new<'a>(len: usize, name: impl Fn(usize) -> &'a [u8]) -> Result<Self, usize> {
        let hasher = RandomState::new();
        let mut slots: Vec<u64> = (0..len).map(|i| hash(&hasher, &[name(i)]) | u64::from(i as u32)).collect();
        slots.sort_unstable();
        let same_hash = slots.chunk_by(|a, b| a >> 32 == b >> 32);
        match same_hash.filter_map(|run| first_duplicate(run, &name)).min() {
            Some(duplicate) => Err(duplicate),
            None => Ok(Self { buckets: buckets(&slots), slots, hasher }),
        }
    }

    /// The position of the name that these pieces make together.
    pub fn find<'a>(&self, pieces: &[&[u8]], name: impl Fn(usize) -> &'a [u8]) -> Option<usize> {
        let hash = hash(&self.hasher, pieces);
        let bucket = bucket(hash, self.buckets.len().checked_sub(1)?);
        let slots = &self.slots[self.buckets[bucket] as usize..self.buckets[bucket + 1] as usize];
        let same_hash = slots.iter().filter(|&&slot| slot >> 32 == hash >> 32);
        same_hash.map(|&slot| position(slot)).find(|&i| is_joined(name(i), pieces))
    }
}

/// Where each bucket of sorted slots begins, and where the last ends.
fn buckets(slots: &[u64]) -> Vec<u32> {
    let count = (slots.len() / 4).max(1);
    let mut starts = Vec::with_capacity(count + 1);
    for (i, slot) in slots.iter().enumerate() {
        // Buckets without slots begin where the next does.
        starts.resize(starts.len().max(bucket(*slot, count) + 1), i as u32);
    }
    starts.resize(count + 1, slots.len() as u32);
    starts
}

/// The one of so many buckets that a hash belongs to, those of lower hashes first.
fn bucket(hash: u64, count: usize) -> usize {
    (((hash >> 32) * count as u64) >> 32) as usize
}

/// The hash in the upper half, 0 in the lower.
fn hash(hasher: &RandomState, pieces: &[&[u8]]) -> u64 {
    let mut hasher = hasher.build_hasher();
    pieces.iter().for_each(|piece| hasher.write(piece));
    hasher.finish() & !u64::from(u32::MAX)
}

fn position(slot: u64) -> usize {
    slot as u32 as usize
}

fn first_duplicate<'a>(run: &[u64], name: impl Fn(usize) -> &'a [u8]) -> Option<usize> {
    let seen_before = |j: &usize| run[..*j].iter().any(|&i| name(position(i)) == name(position(run[*j])));
    (1..run.len()).find(seen_before).map(|j| position(run[j]))
}

fn is_joined(name: &[u8], pieces: &[&[u8]]) -> bool {
    pieces.iter().try_fold(name, |rest, piece| rest.strip_prefix(*piece)).is_some_and(<[u8]>::is_empty)
}

/// What follows the last dot: `weight` of `a.weight` and of `weight`.
pub(crate) fn last(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(_, last)| last)
}

/// A sentence that begins with "; " and tells the names nearest to `wanted`, or nothing where none
/// is near.
pub(crate) fn hint<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> String {
    let scored = names.map(|name| (Reverse(likeness(wanted, name)), name));
    let mut near: Vec<_> = scored.filter(|(score, _)| 2 * score.0 >= wanted.len()).collect();
    let keep = near.len().min(3);
    if keep == 0 {
        return String::new();
    }
    near.select_nth_unstable(keep - 1);
    near.truncate(keep);
    near.sort_unstable();
    let quoted: Vec<_> = near.iter().map(|(_, name)| format!("`{}`", shown(name))).collect();
    format!("; near it: {}", quoted.join(", "))
}

/// Bytes that two names share at their beginnings and ends: linear, and typing errors are local.
fn likeness(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let head = a.iter().zip(b).take_while(|(a, b)| a.eq_ignore_ascii_case(b)).count();
    let tails = a[head..].iter().rev().zip(b[head..].iter().rev());
    head + tails.take_while(|(a, b)| a.eq_ignore_ascii_case(b)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(names: &[&str]) -> Result<NameIndex, usize> {
        NameIndex::new(names.len(), |i| names[i].as_bytes())
    }

    #[test]
    fn finds_every_name_and_no_other() {
        let names: Vec<String> = (0..5000).map(|i| format!("blk.{i}")).collect();
        let at = |i: usize| names[i].as_bytes();
        let index = NameIndex::new(names.len(), at).unwrap();
        for (i, name) in names.iter().enumerate() {
            assert_eq!(index.find(&[name.as_bytes()], at), Some(i));
            let (head, tail) = name.as_bytes().split_at(i % 5);
            assert_eq!(index.find(&[head, tail], at), Some(i), "in pieces");
        }
        assert_eq!(index.find(&[b"blk.5000"], at), None);
        assert_eq!(index.find(&[b"blk.", b"5", b""], at), Some(5));
        assert_eq!(NameIndex::default().find(&[b"x"], at), None);
    }

    #[test]
    fn the_first_duplicate_is_reported() {
        assert_eq!(index(&["a", "b", "c", "b", "a"]).err(), Some(3));
        assert!(index(&["a", "b", "c"]).is_ok());
    }

    #[test]
    fn hints_tell_near_names_only() {
        let names = ["blk.0.ffn_down.weight", "blk.1.ffn_down.weight", "output.weight"];
        let hint = hint("blk.0.ffn_dwn.weight", names.into_iter());
        assert!(hint.starts_with("; near it: `blk.0.ffn_down.weight`"), "{hint}");
        assert_eq!(super::hint("zzz", names.into_iter()), "");
    }
}
