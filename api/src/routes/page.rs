//! `GET /` where the dashboard is not built: a plain page that lists what there is, with links to it.

use std::sync::Arc;

use axum::response::Html;
use serde_json::Value;

use crate::problem::Problem;
use crate::views::Views;
use crate::work::blocking;

const HEAD: &str = include_str!("page.html");

/// The page.
pub async fn show(views: Arc<Views>) -> Result<Html<String>, Problem> {
    blocking(move || Ok(Html(page(&views.documents()?)))).await
}

fn page(views: &[Value]) -> String {
    let mut page = HEAD.to_owned();
    if views.is_empty() {
        page.push_str("<p>There are no views yet.</p>");
    }
    for view in views {
        let text = |name: &str| escape(view.get(name).and_then(Value::as_str).unwrap_or(""));
        let (name, rows) = (text("view"), text("rows"));
        page.push_str(&format!("<h2><a href=\"/v1/views/{name}\">{name}</a></h2><p>rows of one partition: <code>{rows}</code></p><table>"));
        page.push_str("<tr><th>version</th><th>state</th><th>events read</th><th>to go</th><th>watermark</th></tr>");
        for version in view.get("versions").and_then(Value::as_array).into_iter().flatten() {
            let cells = ["version", "state", "read", "lag", "watermark"].map(|name| format!("<td>{}</td>", cell(version.get(name))));
            page.push_str(&format!("<tr>{}</tr>", cells.concat()));
        }
        page.push_str(&format!("</table><pre>{}</pre>", text("sql")));
    }
    page.push_str("</main></body></html>\n");
    page
}

fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => escape(text),
        Some(other) => escape(&other.to_string()),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_views_say_is_shown_and_never_run() {
        let views = [serde_json::json!({
            "view": "v", "sql": "SELECT 1 < 2 AND '<script>'", "rows": "/v1/views/v/rows?a={a}", "versions": [{ "version": 1, "state": "active" }]
        })];
        let page = page(&views);
        assert!(page.contains("1 &lt; 2 AND '&lt;script&gt;'"));
        assert!(page.contains("<td>active</td>"));
    }
}
