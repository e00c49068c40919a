//! The functions that views have beside DataFusion's own: [`tumble`] and [`hop`] put times into windows, [`hashtags`] and
//! [`mentions`] take posts apart.
//!
//! The same SQL text is evaluated in two ways. As a batch (the oracle, ad hoc queries) `hop` answers with the starts of all windows
//! that contain a time. In the engine it answers with the start of the one *pane* that contains it, so that an event is one
//! update and not one for each overlapping window; the engine puts the windows together from panes.

mod classes;
mod field;
mod hashtags;
mod hop;
mod interval;
mod mentions;
mod text_list;
mod tlds;
mod tumble;
mod urls;
mod windows;

use datafusion::logical_expr::ScalarUDF;

pub use field::MaskFields;
pub use hashtags::Hashtags;
pub use hop::{Hop, HopAnswer};
pub use interval::interval_us;
pub use mentions::Mentions;
pub use text_list::{Extract, TextList};
pub use tumble::Tumble;
pub use windows::pane_of;

/// The functions as a batch evaluates them: `hop` answers with all windows.
#[must_use]
pub fn all() -> Vec<ScalarUDF> {
    with(HopAnswer::Windows)
}

/// The functions as the engine evaluates them: the same, except that `hop` answers with a list of one, the pane.
#[must_use]
pub fn for_panes() -> Vec<ScalarUDF> {
    with(HopAnswer::Pane)
}

fn with(answer: HopAnswer) -> Vec<ScalarUDF> {
    let functions = vec![
        ScalarUDF::new_from_impl(Tumble::new()),
        ScalarUDF::new_from_impl(Hop::new(answer)),
        ScalarUDF::new_from_impl(TextList::new(Extract::Hashtags)),
        ScalarUDF::new_from_impl(TextList::new(Extract::Mentions)),
    ];
    #[cfg(test)]
    let functions = [functions, vec![tests::panics_on_boom()]].concat();
    functions
}

#[cfg(test)]
mod tests;
