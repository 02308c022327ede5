//! Parameters of operations: words that a shader reads as its `Params`.

/// A field of the parameters of an operation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Field {
    /// Its name, here and in the shader.
    pub name: &'static str,
    /// First byte.
    pub offset: usize,
    /// Words: 4 of a `vec4`.
    pub words: usize,
}

/// Parameters of an operation, laid out as its shader's `Params`; a test compares the two.
pub trait Parameters: bytemuck::Pod {
    /// All fields, in order.
    const FIELDS: &'static [Field];
}

/// Declares the parameters of an operation: a struct of words, laid out as in the shader.
macro_rules! parameters {
    ($(#[$doc:meta])* pub struct Params { $(pub $field:ident: $ty:ty,)+ }) => {
        $(#[$doc])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, Default, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
        #[allow(missing_docs)] // the shader says what they are
        pub struct Params { $(pub $field: $ty,)+ }

        impl $crate::kernel::parameters::Parameters for Params {
            const FIELDS: &'static [$crate::kernel::parameters::Field] = &[$(
                $crate::kernel::parameters::Field {
                    name: stringify!($field),
                    offset: std::mem::offset_of!(Params, $field),
                    words: size_of::<$ty>() / 4,
                },
            )+];
        }
    };
}
pub(super) use parameters;

/// The parameters of one dispatch.
#[derive(Clone, PartialEq)]
pub struct ParamWords {
    words: Vec<u32>,
    fields: &'static [Field],
}

impl ParamWords {
    pub(super) fn of<P: Parameters>(params: &P) -> Self {
        Self { words: bytemuck::cast_slice(&[*params]).to_vec(), fields: P::FIELDS }
    }

    /// As the shader reads them.
    pub fn bytes(&self) -> &[u8] {
        bytemuck::cast_slice(&self.words)
    }

    /// The first word of a field; none if there is no such field.
    pub fn get(&self, name: &str) -> Option<u32> {
        let field = self.fields.iter().find(|f| f.name == name)?;
        self.words.get(field.offset / 4).copied()
    }
}

impl std::fmt::Debug for ParamWords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut map = f.debug_map();
        for field in self.fields {
            let words = &self.words[field.offset / 4..field.offset / 4 + field.words];
            match words {
                [word] => map.entry(&format_args!("{}", field.name), word),
                words => map.entry(&format_args!("{}", field.name), &words),
            };
        }
        map.finish()
    }
}
