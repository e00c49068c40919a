//! `hashtags(text)` and `mentions(text)`: lists of words found in a text.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayBuilder, ArrayRef, AsArray, ListArray, StringBuilder};
use datafusion::arrow::buffer::{OffsetBuffer, ScalarBuffer};
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::common::{Result, ScalarValue, exec_err, internal_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

use super::{Hashtags, Mentions};

/// What is taken out of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Extract {
    /// `hashtags(text)`, see [`Hashtags`].
    Hashtags,
    /// `mentions(text)`, see [`Mentions`].
    Mentions,
}

/// `hashtags(text)` or `mentions(text)`: the words in order of appearance, in lower case, each as often as it appears. Null if the text is
/// null, an empty list if it has none.
///
/// Lower case is that of SQL's `lower` (Unicode's full mapping): `#Kappa`, `#kappa` and `#KAPPA` count as one, `#Straße` and `#Strasse`
/// do not.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct TextList {
    signature: Signature,
    extract: Extract,
}

impl TextList {
    /// The function that extracts this.
    #[must_use]
    pub fn new(extract: Extract) -> Self {
        TextList { signature: Signature::string(1, Volatility::Immutable), extract }
    }
}

impl ScalarUDFImpl for TextList {
    fn name(&self) -> &str {
        match self.extract {
            Extract::Hashtags => "hashtags",
            Extract::Mentions => "mentions",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::List(Arc::new(item())))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match args.args.as_slice() {
            [ColumnarValue::Array(texts)] => Ok(ColumnarValue::Array(self.lists(texts)?)),
            [ColumnarValue::Scalar(text)] => {
                let one = self.lists(&text.to_array()?)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&one, 0)?))
            }
            other => internal_err!("{} was called with {} arguments", self.name(), other.len()),
        }
    }
}

impl TextList {
    fn lists(&self, texts: &ArrayRef) -> Result<ArrayRef> {
        match texts.data_type() {
            DataType::Utf8 => self.lists_of(texts, texts.as_string::<i32>().iter()),
            DataType::LargeUtf8 => self.lists_of(texts, texts.as_string::<i64>().iter()),
            DataType::Utf8View => self.lists_of(texts, texts.as_string_view().iter()),
            other => exec_err!("{} reads text, not {other}", self.name()),
        }
    }

    fn lists_of<'a>(&self, array: &ArrayRef, texts: impl Iterator<Item = Option<&'a str>>) -> Result<ArrayRef> {
        let mut lists = Lists::with_capacity(array.len());
        match self.extract {
            Extract::Hashtags => {
                let mut hashtags = Hashtags::new();
                for text in texts {
                    if let Some(text) = text {
                        hashtags.each(text, |hashtag| lists.push(hashtag));
                    }
                    lists.close()?;
                }
            }
            Extract::Mentions => {
                for text in texts {
                    if let Some(text) = text {
                        Mentions::each(text, |mention| lists.push(mention));
                    }
                    lists.close()?;
                }
            }
        }
        lists.finish(array)
    }
}

fn item() -> Field {
    Field::new_list_field(DataType::Utf8, true)
}

/// Lists of words in the making.
struct Lists {
    words: StringBuilder,
    offsets: Vec<i32>,
    lower: String,
    bytes: usize,
}

impl Lists {
    fn with_capacity(rows: usize) -> Self {
        let mut offsets = Vec::with_capacity(rows + 1);
        offsets.push(0);
        Lists { words: StringBuilder::with_capacity(rows, rows * 8), offsets, lower: String::new(), bytes: 0 }
    }

    /// Adds a word to the open list, in lower case.
    fn push(&mut self, word: &str) {
        self.lower.clear();
        if word.is_ascii() {
            self.lower.push_str(word);
            self.lower.make_ascii_lowercase();
        } else if word.chars().all(|c| c.to_lowercase().eq([c])) {
            self.lower.push_str(word);
        } else {
            self.lower.push_str(&word.to_lowercase());
        }
        self.bytes = self.bytes.saturating_add(self.lower.len());
        // Past this the builder would panic; `close` says so, the words are dropped until then.
        if i32::try_from(self.bytes).is_ok() {
            self.words.append_value(&self.lower);
        }
    }

    fn close(&mut self) -> Result<()> {
        match (i32::try_from(self.bytes), i32::try_from(self.words.len())) {
            (Ok(_), Ok(end)) => self.offsets.push(end),
            _ => return exec_err!("a batch of {} texts has more than 2 GiB of words: use smaller batches", self.offsets.capacity()),
        }
        Ok(())
    }

    fn finish(mut self, texts: &ArrayRef) -> Result<ArrayRef> {
        let offsets = OffsetBuffer::new(ScalarBuffer::from(self.offsets));
        let list = ListArray::try_new(Arc::new(item()), offsets, Arc::new(self.words.finish()), texts.nulls().cloned())?;
        Ok(Arc::new(list))
    }
}
