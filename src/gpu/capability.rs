//! What a device may be able to do beyond what WebGPU promises, and the switch that turns it off:
//! one table.
//!
//! A row says all of a capability but its field of [`Caps`] and the kernels that ask for it. From
//! the table a device is asked for its features, adapters list them, files of measured choices are
//! named, the command has its arguments, `qmatmul check` tries them on a wrong result, and tests
//! run without each.

use crate::kernel::Caps;
use serde_json::{Value, json};

/// A row of the table.
struct Row {
    /// As [`Caps`] and files of measured choices name it.
    name: &'static str,
    /// The argument of the command that turns it off.
    argument: &'static str,
    /// What that argument does, as the command's help says it.
    help: &'static str,
    /// Its letter in the name of a file of measured choices.
    letter: char,
    /// The feature that a device needs for it, under the name that adapters list it by. None if
    /// every device will do.
    feature: Option<(&'static str, wgpu::Features)>,
    /// Its place among the switches that are tried on a wrong result: what drivers get wrong most
    /// often comes first.
    tried: u8,
    /// What a device has of it. Null and false are nothing.
    value: fn(&Caps) -> Value,
    /// Leaves it out, with all that needs it.
    take_out: fn(&mut Caps),
}

/// An enum and its table: no row lacks a variant, no variant a row.
macro_rules! capabilities {
    ($($(#[$doc:meta])+ $variant:ident = $row:expr,)+) => {
        /// Something that a device may be able to do, that kernels use where it is there, and that
        /// [`Options::without`](super::Options::without) turns off.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Capability { $($(#[$doc])+ $variant,)+ }

        impl Capability {
            /// All of them, in the order of the command's help.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            fn row(self) -> &'static Row {
                match self { $(Self::$variant => const { &$row },)+ }
            }
        }
    };
}

capabilities! {
    /// Operations among the lanes of a subgroup.
    Subgroups = Row {
        name: "subgroup",
        argument: "--no-subgroups",
        help: "Do not use subgroup operations",
        letter: 's',
        feature: Some(("subgroup", wgpu::Features::SUBGROUP)),
        tried: 2,
        value: |caps| json!(caps.subgroup),
        take_out: |caps| (caps.subgroup, caps.cooperative) = (None, None),
    },
    /// Arithmetic in f16.
    F16 = Row {
        name: "f16",
        argument: "--no-f16",
        help: "Do not use f16 arithmetic",
        letter: 'h',
        feature: Some(("f16", wgpu::Features::SHADER_F16)),
        tried: 3,
        value: |caps| json!(caps.f16),
        take_out: |caps| (caps.f16, caps.cooperative) = (false, None),
    },
    /// Integers of 64 bits.
    Int64 = Row {
        name: "int64",
        argument: "--no-int64",
        help: "Do not use integers of 64 bits",
        letter: 'i',
        feature: Some(("int64", wgpu::Features::SHADER_INT64)),
        tried: 5,
        value: |caps| json!(caps.int64),
        take_out: |caps| caps.int64 = false,
    },
    /// Products of bytes, four at a time, by `dot4I8Packed`, for which every backend has something.
    IntDot = Row {
        name: "int_dot",
        argument: "--no-int-dot",
        help: "Multiply bytes one by one, not four at a time",
        letter: 'd',
        feature: None,
        tried: 4,
        value: |caps| json!(caps.int_dot),
        take_out: |caps| caps.int_dot = false,
    },
    /// Cooperative matrices, which are used only where they were found to work.
    Cooperative = Row {
        name: "cooperative",
        argument: "--no-cooperative",
        help: "Do not use cooperative matrices",
        letter: 'c',
        feature: Some(("cooperative-matrix", wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX)),
        tried: 1,
        value: |caps| json!(caps.cooperative),
        take_out: |caps| caps.cooperative = None,
    },
}

impl Capability {
    /// All of them, what drivers get wrong most often first.
    pub fn by_suspicion() -> Vec<Self> {
        let mut all = Self::ALL.to_vec();
        all.sort_by_key(|capability| capability.row().tried);
        all
    }

    /// Its field of [`Caps`]: `int_dot`.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// The argument of the command that turns it off: `--no-int-dot`.
    pub fn argument(self) -> &'static str {
        self.row().argument
    }

    /// What that argument does, for people.
    pub fn help(self) -> &'static str {
        self.row().help
    }

    /// True if a device of these `caps` has it.
    pub fn is_in(self, caps: &Caps) -> bool {
        !matches!(self.value(caps), Value::Null | Value::Bool(false))
    }

    /// Takes it out of what a device can do, with all that needs it.
    ///
    /// ```
    /// use qmatmul::{gpu::Capability, kernel::Caps};
    ///
    /// let mut caps = Caps::everything();
    /// Capability::F16.take_out(&mut caps);
    /// assert!(!caps.f16 && caps.cooperative.is_none(), "cooperative matrices have f16 in them");
    /// ```
    pub fn take_out(self, caps: &mut Caps) {
        (self.row().take_out)(caps);
    }

    pub(super) fn letter(self) -> char {
        self.row().letter
    }

    pub(super) fn value(self, caps: &Caps) -> Value {
        (self.row().value)(caps)
    }

    /// The name that adapters list its feature by, and the feature.
    pub(super) fn feature(self) -> Option<(&'static str, wgpu::Features)> {
        self.row().feature
    }

    /// The features that it needs of a device.
    pub(super) fn features(self) -> wgpu::Features {
        self.feature().map_or(wgpu::Features::empty(), |(_, feature)| feature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::fmt::Debug;

    #[test]
    fn rows_are_told_apart() {
        fn differ<T: Ord + Debug>(column: fn(&Row) -> T) {
            let values: BTreeSet<T> = Capability::ALL.iter().map(|c| column(c.row())).collect();
            assert_eq!(values.len(), Capability::ALL.len(), "{values:?}");
        }
        differ(|row| row.name);
        differ(|row| row.argument);
        differ(|row| row.help);
        differ(|row| row.letter);
        differ(|row| row.tried);
    }

    #[test]
    fn each_is_taken_out_of_what_a_device_can_do() {
        let everything = Caps::everything();
        for capability in Capability::ALL {
            assert!(capability.is_in(&everything), "{capability:?}");
            let mut caps = everything.clone();
            capability.take_out(&mut caps);
            assert!(!capability.is_in(&caps), "{capability:?}");
            let left = Capability::ALL.iter().filter(|other| other.is_in(&caps)).count();
            let lost = 1 + usize::from(["subgroup", "f16"].contains(&capability.name()));
            assert_eq!(left, Capability::ALL.len() - lost, "{capability:?}: cooperative needs some");
        }
    }

    /// A device starts with everything: what no row takes out, it would be thought to have.
    #[test]
    fn the_rows_take_everything_out() {
        let mut caps = Caps::everything();
        Capability::ALL.iter().for_each(|capability| capability.take_out(&mut caps));
        let left = format!("{caps:?}");
        assert!(!left.contains("true") && !left.contains("Some"), "{left}");
    }

    #[test]
    fn arguments_are_tried_in_order() {
        assert!(Capability::ALL.iter().all(|c| c.argument().starts_with("--no-")));
        let first = ["--no-cooperative", "--no-subgroups", "--no-f16", "--no-int-dot", "--no-int64"];
        let mut tried: Vec<_> = Capability::by_suspicion().iter().map(|c| c.argument()).collect();
        tried.retain(|argument| first.contains(argument));
        assert_eq!(tried, first);
    }
}
