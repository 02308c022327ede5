//! `qmatmul summary RECORD...`: a page about recorded runs of one device.

use super::Ending;
use super::options::output_file;
use super::output::{self, markdown};
use super::records::{Place, Text};
use qmatmul::error::{Error, Result};
use qmatmul::file::output as files;
use qmatmul_report::summary::{Record, Section, folder_name, sections, two_devices};
use qmatmul_report::{SCHEMA, plain};
use serde_json::Value;
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
pub struct Summary {
    /// Outputs of `-f jsonl` or `json`: of bench, peak, tune, check
    #[arg(required = true, value_name = "RECORD")]
    records: Vec<PathBuf>,
    /// Print only the name of a folder for records of this device
    #[arg(long, conflicts_with = "output")]
    name: bool,
    /// Write the page, which is Markdown, to a file
    #[arg(short, long, value_name = "FILE", value_parser = output_file)]
    output: Option<PathBuf>,
}

impl Summary {
    pub fn run(&self) -> Result<Ending> {
        if let Some(page) = &self.output {
            files::refuse_input(page, self.records.iter().map(PathBuf::as_path))?;
            files::probe(page)?;
        }
        let records = self.records.iter().map(|path| read(path)).collect::<Result<Vec<_>>>()?.concat();
        if let Some([first, second]) = two_devices(&records) {
            return Err(Error::Argument(format!("these are records of two devices: {first} and {second}")));
        }
        let device = records.iter().find_map(Record::device).ok_or_else(|| {
            Error::Argument("none of these records is of a GPU adapter: `devices` alone names none".into())
        })?;
        if self.name {
            output::write_stdout(format!("{}\n", folder_name(device)).as_bytes())?;
            return Ok(Ending::Fine);
        }
        let name = device.get("name").and_then(Value::as_str).unwrap_or_default();
        let page = page(name, &sections(&records));
        match &self.output {
            Some(path) => files::write(path, |sink| sink.put(page.as_bytes()))?,
            None => output::write_stdout(page.as_bytes())?,
        }
        Ok(Ending::Fine)
    }
}

/// The runs of a file, each of which begins with its head.
fn read(path: &Path) -> Result<Vec<Record>> {
    let text = Text::read(path)?.whole_lines();
    let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let mut records: Vec<Record> = vec![];
    for row in text.rows()? {
        let is_head = row.fields.get("schema").is_some_and(|schema| *schema == SCHEMA);
        let verdict = match row.fields.get("verdict") {
            Some(Value::Object(verdict)) => Some(verdict.clone()),
            _ => None,
        };
        match records.last_mut() {
            _ if is_head => {
                let (name, head) = (name.clone(), row.fields);
                records.push(Record { name, head, rows: vec![], verdict: None });
            }
            Some(record) if verdict.is_some() => record.verdict = verdict,
            Some(record) => record.rows.push(row.fields),
            None => {
                let wanted = format!("wanted `\"schema\": {SCHEMA}` first, as `-f jsonl` and `json` have it");
                return Err(text.malformed(row.place, wanted));
            }
        }
    }
    match records.is_empty() {
        true => Err(text.malformed(Place::Line(1), "no line of a record".into())),
        false => Ok(records),
    }
}

/// The sections as Markdown.
fn page(device: &str, sections: &[Section]) -> String {
    let mut page = format!("# {}\n", plain(device).replace('\n', " "));
    for Section { title, text, columns, rows } in sections {
        page += &format!("\n## {title}\n\n");
        page.extend(text.iter().map(|text| plain(text).replace('\n', " ") + "\n\n"));
        page += &markdown(columns, rows);
    }
    page
}
