//! Model folders in the layout of Hugging Face.

/// Number format of saved weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum WeightType {
    /// Exactly the trained values.
    #[default]
    F32,
    /// Rounded to the nearest bfloat16, half the size.
    Bf16,
}

impl WeightType {
    /// Name of the format in `config.json`.
    pub(crate) fn torch_name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::Bf16 => "bfloat16",
        }
    }
}
