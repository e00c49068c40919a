//! The parts of the API put together. Routes take those that they need, and none takes the whole.

use std::sync::Arc;

use axum::extract::FromRef;

use crate::access::Access;
use crate::counts::HttpMetrics;
use crate::health::Health;
use crate::intake::Intakes;
use crate::limits::{AllPlaces, Limits};
use crate::live::Live;
use crate::ports::{ApiError, Ports};
use crate::reading::Reading;
use crate::routes::assets::Dashboard;
use crate::routes::guard::OwnNames;
use crate::routes::metrics::Scrapes;
use crate::routes::why::History;
use crate::settings::ApiSettings;
use crate::views::Views;
use crate::watch::Watch;

/// What the routes work with. Cheap to clone.
#[derive(Clone, FromRef)]
pub struct ApiState {
    pub(crate) watch: Arc<Watch>,
    pub(crate) views: Arc<Views>,
    pub(crate) reading: Arc<Reading>,
    pub(crate) intakes: Arc<Intakes>,
    pub(crate) live: Arc<Live>,
    pub(crate) health: Arc<Health>,
    pub(crate) history: Arc<History>,
    pub(crate) scrapes: Arc<Scrapes>,
    pub(crate) access: Arc<Access>,
    pub(crate) places: Arc<AllPlaces>,
    pub(crate) counts: Arc<HttpMetrics>,
    pub(crate) limits: Arc<Limits>,
    pub(crate) names: OwnNames,
    pub(crate) dashboard: Dashboard,
}

impl ApiState {
    /// The state over these ports.
    ///
    /// # Errors
    /// When a source's schema is not valid, or cannot be written, or the file of tokens is not one.
    pub fn new(ports: Ports, settings: ApiSettings) -> Result<ApiState, ApiError> {
        let counts = Arc::new(HttpMetrics::new());
        let places = Arc::new(AllPlaces::new(&settings.limits, settings.ingest_requests, settings.max_body_bytes, &counts));
        let watch = Arc::new(Watch::new(&ports, settings.caught_up_lag_events));
        let views = Arc::new(Views::new(&ports, &settings, &watch)?);
        let (rows_default, rows_max) = (settings.rows_default, settings.rows_max);
        let reading = Arc::new(Reading { views: views.clone(), rows_default, rows_max });
        let history = Arc::new(History { log: ports.log.clone(), schemas: ports.schemas.clone() });
        Ok(ApiState {
            history,
            intakes: Arc::new(Intakes::new(&ports, &settings, &watch, &places, &counts)?),
            live: Arc::new(Live::new(&ports, &settings, &reading, &places, &counts)),
            health: Arc::new(Health::new(&views)),
            scrapes: Arc::new(Scrapes::new(&views, &counts)),
            access: Arc::new(Access::new(settings.access)?),
            limits: Arc::new(settings.limits),
            names: OwnNames(settings.own_names.map(Into::into)),
            dashboard: Dashboard::default(),
            watch,
            views,
            reading,
            places,
            counts,
        })
    }
}
