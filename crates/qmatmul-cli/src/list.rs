//! Lists and ranges of positive numbers as llama-bench takes them: `1,8,512`, `1-4`, `64-256+64`,
//! `256-4096*2`.

/// A parsed list.
#[derive(Clone, Debug, PartialEq)]
pub struct List(pub Vec<usize>);

const MOST: usize = 10_000;

impl std::str::FromStr for List {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut numbers = vec![];
        for part in text.split(',') {
            numbers.extend(range(part.trim())?);
            if numbers.len() > MOST {
                return Err(format!("`{text}` lists more than {MOST} numbers"));
            }
        }
        // Each once: a case that is measured twice counts twice.
        let mut seen = std::collections::HashSet::new();
        numbers.retain(|number| seen.insert(*number));
        match numbers.contains(&0) {
            true => Err(format!("`{text}` holds 0")),
            false => Ok(Self(numbers)),
        }
    }
}

fn number(text: &str) -> Result<usize, String> {
    text.parse()
        .map_err(|_| format!("`{text}` is not a number; write lists like 1,8,512 and ranges like 256-4096*2"))
}

fn range(text: &str) -> Result<Vec<usize>, String> {
    let Some((first, rest)) = text.split_once('-') else { return Ok(vec![number(text)?]) };
    let (last, step): (_, Box<dyn Fn(usize) -> Option<usize>>) = match rest.split_once(['*', '+']) {
        None => (rest, Box::new(|n| n.checked_add(1))),
        Some((last, step)) => {
            let by = number(step)?;
            let times = rest.as_bytes()[last.len()] == b'*';
            if (times && by < 2) || by == 0 {
                return Err(format!("`{text}` never ends"));
            }
            (
                last,
                if times {
                    Box::new(move |n| n.checked_mul(by))
                } else {
                    Box::new(move |n| n.checked_add(by))
                },
            )
        }
    };
    let (first, last) = (number(first)?, number(last)?);
    if first == 0 && step(0) == Some(0) {
        return Err(format!("`{text}` never ends"));
    }
    let numbers = std::iter::successors(Some(first), |n| step(*n)).take_while(|n| *n <= last);
    match last < first {
        true => Err(format!("`{text}` is empty")),
        false => Ok(numbers.take(MOST + 1).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::List;

    fn list(text: &str) -> Vec<usize> {
        text.parse::<List>().expect(text).0
    }

    #[test]
    fn lists_and_ranges() {
        assert_eq!(list("1,8,512"), [1, 8, 512]);
        assert_eq!(list("1-4"), [1, 2, 3, 4]);
        assert_eq!(list("64-256+64"), [64, 128, 192, 256]);
        assert_eq!(list("1-9+2"), [1, 3, 5, 7, 9]);
        assert_eq!(list("1-8+2,512"), [1, 3, 5, 7, 512]);
        assert_eq!(list("256-4096*2"), [256, 512, 1024, 2048, 4096]);
        assert_eq!(list("1, 2-3"), [1, 2, 3]);
        assert_eq!(list("8,1-3,2,8"), [8, 1, 2, 3]);
    }

    #[test]
    fn what_is_not_a_list() {
        for text in
            ["", "x", "1,,2", "1-", "1-9*1", "1-9+0", "0-9*2", "-5", "8-1", "0", "1,0", "1-99999999", "1e3"]
        {
            assert!(text.parse::<List>().is_err(), "{text}");
        }
    }
}
