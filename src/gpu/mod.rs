//! Everything that names wgpu: the device, uploads, pipelines, recording, reading back, timing.

mod adapters;
mod bind;
mod call;
mod capability;
mod context;
mod device;
mod dx12;
mod encode;
mod errors;
mod hooks;
mod host;
mod int8;
mod layer;
mod memory;
mod pack;
mod peak;
mod pipelines;
mod probe;
mod program;
mod run;
mod runtime;
mod time;
mod transfer;
mod tuning;
mod upload;
mod warm_up;
mod weights;

pub use crate::kernel::Tuned;
pub use crate::kernel::program::{Element, Tokens, View};
pub use adapters::{AdapterSummary, Select, adapters, advice};
pub use capability::Capability;
pub use device::Options;
pub use dx12::ShaderCompiler;
pub use encode::EncodeInput;
#[doc(hidden)]
pub use hooks::{Hook, Point};
pub use host::last_level_cache;
pub use layer::Layer;
pub use peak::{Arithmetic, Bandwidth, Peak};
pub use program::{BoundProgram, Program, Slice};
pub(crate) use run::{CANARY, Task};
pub use runtime::Runtime;
pub use time::Timing;
pub use tuning::{Tuning, TuningCache};
pub use weights::{Upload, Weights};
