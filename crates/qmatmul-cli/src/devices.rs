//! `qmatmul devices`

use super::Ending;
use super::options::Output;
use super::output::{Layout, Results};
use qmatmul::error::Result;
use qmatmul::gpu;
use qmatmul_report::Verdict;
use qmatmul_report::device::{COLUMNS, cells};

#[derive(clap::Args)]
pub struct Devices {
    #[command(flatten)]
    output: Output,
}

impl Devices {
    pub fn run(&self) -> Result<Ending> {
        let adapters = gpu::adapters();
        if adapters.is_empty() {
            gpu::Runtime::new()?; // says what to install
        }
        let mut results = Results::begin(&self.output, None, COLUMNS)?.layout(Layout::Cards);
        for (index, adapter) in adapters.iter().enumerate() {
            results.row([vec![index.into()], cells(adapter)].concat())?;
        }
        gpu::advice(&adapters).iter().for_each(|line| self.output.say(line));
        let count = adapters.len();
        let devices = if count == 1 { "device" } else { "devices" };
        results.end(&Verdict::ok(format!("{count} {devices}; without --device, 0 is used")))?;
        Ok(Ending::Fine)
    }
}
