//! Which tensors of a model are multiplied with activations, and how often for one token.

use crate::file::selection::{self, OutputMatrix};
use crate::file::transformers::{Architecture, model_type};
use crate::file::{Kind, Model, TensorInfo};
use std::collections::{HashMap, HashSet};

/// Which tensors of a model are the weights of its matmuls: see [`Model::multiplied`].
#[derive(Debug)]
pub struct Multiplied<'a> {
    model: &'a Model,
    rules: Rules,
    /// The token embedding, where it is the output matrix, too.
    tied: Option<&'a str>,
}

/// What decides.
#[derive(Debug)]
enum Rules {
    /// The shape alone, of files that name no architecture.
    Shape,
    Gguf,
    /// With what transformers does with the model, where that is known.
    Checkpoint(Option<Architecture>),
}

impl Model {
    /// Which tensors of the model are the weights of its matmuls, by their names and shapes:
    /// matrices, and stacks `[experts, m, k]` of them; no vectors, norms, biases, scales, position
    /// tables, token-type embeddings, convolutions and tables in which rows are looked up. The
    /// token embedding is one where the model has no output matrix of its own and gives logits. In
    /// a file that names no architecture (`general.architecture` of a GGUF, `model_type` of a
    /// config.json) they are all tensors of two or three dimensions.
    ///
    /// ```
    /// # fn main() -> qmatmul::Result<()> {
    /// use qmatmul::file::Model;
    /// # let header = br#"{"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},
    /// #   "b":{"dtype":"F32","shape":[2],"data_offsets":[24,32]}}"#;
    /// # let file = [&(header.len() as u64).to_le_bytes()[..], header, &[0; 32]].concat();
    /// let model = Model::from_bytes("two.safetensors", file)?; // a [2, 3], b [2]
    /// let multiplied = model.multiplied();
    /// assert!(multiplied.contains(model.find("a")?));
    /// assert!(!multiplied.contains(model.find("b")?));
    /// assert_eq!(multiplied.tensors().count(), 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn multiplied(&self) -> Multiplied<'_> {
        let rules = match self.kind() {
            Kind::Gguf(_) if self.gguf().get("general.architecture").is_some() => Rules::Gguf,
            Kind::Safetensors | Kind::Sharded if model_type(self).is_some() => {
                Rules::Checkpoint(model_type(self).and_then(Architecture::of))
            }
            _ => Rules::Shape,
        };
        let output = OutputMatrix::of(self).filter(|output| output.tied && !selection::is_encoder(self));
        Multiplied { model: self, rules, tied: output.map(|output| output.name) }
    }
}

impl<'a> Multiplied<'a> {
    /// True if a tensor of the model is the weight of a matmul, or a stack of them.
    pub fn contains(&self, tensor: &TensorInfo) -> bool {
        let is_matrix = match &self.rules {
            Rules::Shape => (2..=3).contains(&tensor.shape.len()),
            Rules::Gguf if tensor.name == selection::EMBEDDING_IN_GGUF => self.tied == Some(&*tensor.name),
            Rules::Gguf => selection::is_matrix_in_gguf(tensor),
            Rules::Checkpoint(known) => {
                self.tied == Some(&*tensor.name) || selection::is_matrix_in_checkpoint(tensor, known.as_ref())
            }
        };
        is_matrix && tensor.elements() > 0
    }

    /// Those that are, in the order of the files.
    pub fn tensors(&self) -> impl Iterator<Item = &'a TensorInfo> + '_ {
        self.model.tensors().iter().filter(|tensor| self.contains(tensor))
    }
}

/// A matmul that a model computes for each token, and the weights that it does so with: see
/// [`Model::products`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Product<'a> {
    /// The first of the weights.
    pub tensor: &'a TensorInfo,
    /// Rows of one matrix: features of the result.
    pub m: u64,
    /// Columns of one matrix: features of the activations.
    pub k: u64,
    /// Weights of the model that are multiplied alike. A stack of experts counts once, experts that
    /// lie in tensors of their own together once.
    pub count: u64,
    /// Matrices of a stack of experts; 1 for all other weights.
    pub experts: u64,
    /// Matrices of a stack that one token goes through: all, where the model does not say how many;
    /// 1 for all other weights.
    pub experts_used: u64,
}

impl Product<'_> {
    /// How many matrices `[m, k]` one token is multiplied with.
    pub fn per_token(&self) -> u64 {
        self.count.saturating_mul(self.experts_used)
    }
}

/// What products have in common that are computed alike.
#[derive(PartialEq, Eq, Hash)]
struct Key<'a> {
    dtype: &'a str,
    /// The settings of a module: groups, scales, zero-points.
    settings: Option<String>,
    shape: [u64; 2],
    experts: u64,
}

impl Model {
    /// The distinct matmuls of the model for one token, in the order of their first weights: those
    /// of [`Model::multiplied`], where type, settings, shape and number of experts are the same,
    /// together.
    ///
    /// ```no_run
    /// # fn main() -> qmatmul::Result<()> {
    /// use qmatmul::file::{Model, OpenOptions};
    /// let model = Model::open("model-Q4_K_M.gguf", &OpenOptions::default())?;
    /// for product in model.products() {
    ///     let (format, count) = (&product.tensor.dtype, product.per_token());
    ///     println!("{format} {} x {}, {count} a token", product.m, product.k);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn products(&self) -> Vec<Product<'_>> {
        let used = self.overview().experts_used;
        let weights: Vec<_> = self.multiplied().tensors().collect();
        let mut stacks: HashMap<String, u64> = HashMap::new();
        for stack in weights.iter().filter_map(|tensor| Stack::of(&tensor.name)) {
            *stacks.entry(stack.of_all).or_default() += 1;
        }
        let (mut places, mut products) = (HashMap::new(), Vec::<Product>::new());
        let mut seen = HashSet::new();
        for tensor in weights {
            let experts = match (&tensor.shape[..], Stack::of(&tensor.name)) {
                ([experts, _, _], _) => *experts,
                // The first of a stack stands for all of it.
                (_, Some(stack)) => {
                    let experts = stacks.get(&stack.of_all).copied().unwrap_or(1);
                    if !seen.insert(stack.of_all) {
                        continue;
                    }
                    experts
                }
                _ => 1,
            };
            let (m, k) = match tensor.shape[..] {
                [_, m, k] | [m, k] => (m, k),
                _ => (tensor.rows(), tensor.cols()),
            };
            let settings = tensor.module.as_ref().map(|module| module.description());
            let key = Key { dtype: tensor.dtype.name(), settings, shape: [m, k], experts };
            let place = *places.entry(key).or_insert(products.len());
            match products.get_mut(place) {
                Some(product) => product.count += 1,
                None => {
                    let experts_used = used.unwrap_or(experts).min(experts);
                    products.push(Product { tensor, m, k, count: 1, experts, experts_used });
                }
            }
        }
        products
    }
}

/// An expert whose weight is a tensor of its own: `mlp.experts.17.up_proj`.
struct Stack {
    /// The name without the number of the expert, which all of a layer have in common.
    of_all: String,
}

impl Stack {
    fn of(name: &str) -> Option<Self> {
        let (before, rest) = name.split_once("experts.")?;
        let (number, behind) = rest.split_once('.')?;
        let is_number = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
        is_number.then(|| Self { of_all: format!("{before}experts.*.{behind}") })
    }
}
