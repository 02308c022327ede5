//! The pattern tables of `adapter_config.json`.

use crate::file::container::json::Texts;
use crate::file::names::shown;
use std::mem;
use std::ops::Range;

/// Values by patterns of modules. PEFT takes a key for a regular expression, `(^|.*\.)(key)$`, and
/// the first that matches counts; here it is a name of modules, or the end of one from a dot on.
///
/// A look-up goes through a module's characters from the last to the first, and keeps those
/// patterns that agree so far. As they are sorted by their characters in the same order, these are
/// neighbours; since a dot in a key stands for any character, in a few places.
#[derive(Debug)]
pub(crate) struct Patterns<T> {
    /// The characters of all keys, each in reverse; `None` stands for any character, as `.` does.
    chars: Vec<Option<char>>,
    list: Vec<Pattern<T>>,
}

#[derive(Debug)]
struct Pattern<T> {
    /// Where its characters lie, and how many.
    start: u32,
    len: u32,
    /// Nothing may stand before it.
    whole: bool,
    /// Among the keys of the file.
    position: u32,
    value: T,
}

impl<T: Copy> Patterns<T> {
    /// # Errors
    /// What is wrong with a key.
    pub fn new(keys: &Texts, values: Vec<T>) -> Result<Self, String> {
        let mut patterns = Self { chars: vec![], list: Vec::with_capacity(values.len()) };
        for (position, value) in values.into_iter().enumerate() {
            let key = keys.get(position);
            patterns.push(key, value).ok_or_else(|| {
                let key = shown(key);
                format!(
                    "`{key}` is a regular expression; names, `.`, and `^` before and `$` behind them are supported"
                )
            })?;
        }
        if let Err(twice) = keys.index() {
            return Err(format!("`{}` is given twice", shown(keys.get(twice))));
        }
        patterns.sort();
        Ok(patterns)
    }

    /// `None` if the key is more of a regular expression than a name.
    fn push(&mut self, key: &str, value: T) -> Option<()> {
        let (whole, key) = key.strip_prefix('^').map_or((false, key), |key| (true, key));
        let (start, position) = (self.chars.len(), self.list.len() as u32);
        let mut chars = key.strip_suffix('$').unwrap_or(key).chars();
        while let Some(c) = chars.next() {
            self.chars.push(match c {
                '.' => None,
                '\\' => Some(chars.next().filter(|c| *c == '.')?),
                c if c.is_alphanumeric() || matches!(c, '_' | '-' | '/' | ' ') => Some(c),
                _ => return None,
            });
        }
        self.chars[start..].reverse();
        let (start, len) = (start as u32, (self.chars.len() - start) as u32);
        self.list.push(Pattern { start, len, whole, position, value });
        Some(())
    }

    /// Puts the patterns into the order of their characters. Of those that mean the same, as `a`
    /// and `a$`, the first counts.
    fn sort(&mut self) {
        let mut list = mem::take(&mut self.list);
        let key = |p: &Pattern<T>| (&self.chars[p.start as usize..][..p.len as usize], p.whole);
        list.sort_unstable_by(|a, b| (key(a), a.position).cmp(&(key(b), b.position)));
        list.dedup_by(|later, first| key(later) == key(first));
        self.list = list;
    }

    /// The value of the first pattern that matches.
    ///
    /// # Errors
    /// A sentence, if dots let so many patterns agree in so many places that it takes no time in
    /// proportion to the name.
    pub fn find(&self, module: &str) -> Result<Option<T>, String> {
        let limit = 128 + 4 * module.len();
        let (mut agree, mut next, mut steps) = (vec![Range { start: 0, end: self.list.len() }], vec![], 0);
        let mut found: Option<&Pattern<T>> = None;
        for (depth, before) in module.chars().rev().map(Some).chain([None]).enumerate() {
            let ended = agree.iter_mut().flat_map(|range| self.ended(range, depth));
            let matching = ended.filter(|pattern| before.is_none_or(|c| c == '.' && !pattern.whole));
            found = found.into_iter().chain(matching).min_by_key(|pattern| pattern.position);
            let Some(c) = before else { break };
            let both = |range: &Range<usize>| [Some(c), None].map(|c| self.narrowed(range.clone(), depth, c));
            next.clear();
            for (range, looks) in agree.iter().flat_map(both) {
                steps += looks;
                next.extend(Some(range).filter(|range| !range.is_empty()));
            }
            mem::swap(&mut agree, &mut next);
            steps += agree.len();
            if steps > limit {
                let module = shown(module);
                return Err(format!("dots leave too much open for `{module}`: more than {limit} steps"));
            }
            if agree.is_empty() {
                break;
            }
        }
        Ok(found.map(|pattern| pattern.value))
    }

    /// Those of `depth` characters, which come first and are taken from the range.
    fn ended(&self, range: &mut Range<usize>, depth: usize) -> &[Pattern<T>] {
        let all = &self.list[range.clone()];
        let count = all.iter().take_while(|pattern| pattern.len as usize == depth).count();
        range.start += count;
        &all[..count]
    }

    /// Those of a range whose character at `depth` is `c`; all have one there. And how many were
    /// looked at in a search.
    fn narrowed(&self, range: Range<usize>, depth: usize, c: Option<char>) -> (Range<usize>, usize) {
        let at = |pattern: &Pattern<T>| self.chars[pattern.start as usize + depth];
        let all = &self.list[range.clone()];
        let [Some(first), Some(last)] = [all.first(), all.last()].map(|end| end.map(at)) else {
            return (range, 0);
        };
        match () {
            // Most often all agree, or none does, which takes no search.
            _ if first == c && last == c => (range, 0),
            _ if c < first || last < c => (range.start..range.start, 0),
            _ => {
                let [start, end] = [
                    all.partition_point(|pattern| at(pattern) < c),
                    all.partition_point(|pattern| at(pattern) <= c),
                ];
                (range.start + start..range.start + end, all.len().ilog2() as usize)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of these keys, each with its position.
    fn table(keys: &[&str]) -> Result<Patterns<usize>, String> {
        let mut texts = Texts::default();
        keys.iter().for_each(|key| texts.push(key).expect("short"));
        Patterns::new(&texts, (0..keys.len()).collect())
    }

    fn is(key: &str, module: &str) -> bool {
        table(&[key]).and_then(|table| table.find(module)).expect("a plain key").is_some()
    }

    #[test]
    fn patterns_are_names_or_their_ends() {
        assert!(is("q_proj", "model.layers.0.q_proj") && is("q_proj", "q_proj"));
        assert!(
            !is("q_proj", "model.layers.0.xq_proj") && !is("q_proj", "q_proj.x") && !is("q_proj", "proj")
        );
        assert!(is("0.q_proj", "layers.0.q_proj") && !is("0.q_proj", "layers.10.q_proj"));
        assert!(is("0.q_proj", "layers.0xq_proj"), "a dot is any character");
        assert!(is("0.q_proj", "layers.0\0q_proj") && is("0.q_proj", "layers.0éq_proj"));
        assert!(!is(r"0\.q_proj", "layers.0xq_proj") && is(r"0\.q_proj$", "layers.0.q_proj"));
        assert!(is("^layers.0.q_proj", "layers.0.q_proj") && !is("^q_proj", "layers.0.q_proj"));
    }

    #[test]
    fn regular_expressions_are_not_taken_for_names() {
        for key in [r"layers\.\d+.q", "q|k", "(q)", "q*", "q+", "[qk]", "a^b", "a$b", r"q\", "q?", "q{2}"] {
            assert!(table(&[key]).is_err(), "{key}");
        }
        let twice = table(&["a", "b", "a"]).expect_err("the same").contains("`a` is given twice");
        assert!(twice && table(&["a", "^a", r"\.a", ".a"]).is_ok());
        assert_eq!(table(&["b", "a$", "a"]).expect("different texts").find("x.a"), Ok(Some(1)));
    }

    /// Against the definition, key by key, over all short keys and modules of three characters.
    #[test]
    fn the_first_that_matches_counts() {
        let words = |letters: [&str; 4]| {
            let of =
                |n: usize| (0..n.pow(4)).map(move |i| [1, 4, 16, 64].map(|d| letters[i / d % 4]).concat());
            of(4).collect::<Vec<_>>()
        };
        let matches = |key: &str, module: &str| is(key, module);
        let keys = [words(["a", ".", "", r"\."]), vec!["^a".into(), "^.a".into()]].concat();
        let mut seen = std::collections::BTreeSet::new();
        // Far apart in the order of characters, and each once.
        let mixed = (0..keys.len()).map(|i| &*keys[i * 101 % keys.len()]);
        let keys: Vec<&str> = mixed.filter(|key| seen.insert(*key)).collect();
        let table = table(&keys).expect("all different");
        for module in words(["a", ".", "x", ""]) {
            let want = keys.iter().position(|key| matches(key, &module));
            assert_eq!(table.find(&module), Ok(want), "{module}");
        }
    }

    /// All keys of so many letters and dots agree with one name, each in a place of its own.
    #[test]
    fn what_dots_leave_open_is_bounded() {
        let keys: Vec<String> = (0..1u32 << 12)
            .map(|i| (0..12).map(|bit| if i >> bit & 1 == 0 { 'a' } else { '.' }).collect())
            .collect();
        let table = table(&keys.iter().map(|key| &**key).collect::<Vec<_>>()).expect("all different");
        let problem = table.find(&"a".repeat(100)).expect_err("too many").contains("more than 528 steps");
        assert!(problem && table.find(&"b".repeat(100)) == Ok(None));
    }
}
