//! Everything that names wgpu: the device, uploads, pipelines, recording, reading back, timing.

mod adapters;
mod asynchronous;
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
mod off_thread;
mod pack;
mod peak;
mod pipelines;
mod probe;
mod record;
mod run;
mod runtime;
mod time;
mod transfer;
mod tuning;
mod upload;
mod warm_up;
mod weights;

pub use adapters::{AdapterSummary, Select, adapters, advice};
pub use capability::Capability;
pub use device::{Options, wanted_experimental_features, wanted_features, wanted_limits};
pub use dx12::ShaderCompiler;
pub use encode::EncodeInput;
#[doc(hidden)]
pub use hooks::{Hook, Point};
pub use host::last_level_cache;
pub use layer::Layer;
pub use peak::{Arithmetic, Bandwidth, Peak};
pub(crate) use run::{CANARY, Task};
pub use runtime::Runtime;
pub use time::Timing;
pub use tuning::{Tuned, Tuning, TuningCache};
pub use weights::{Upload, Weights};
