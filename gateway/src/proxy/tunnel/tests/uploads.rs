//! Uploads as they pass.

use super::*;

#[tokio::test]
async fn what_an_upload_used_is_read_as_its_answer_passes() {
    let mut upload = upload_of(Setup::default()).await;
    upload.member().await;
    upload.judge(200).unwrap();
    let mut piece = Some(Bytes::from_static(br#"{"text":"x","usage":{"type":"tokens","input_tokens":4,"output_tokens":6}}"#));
    let before = piece.clone();
    answer(&upload.gateway, &mut upload.session, &mut piece, true, upload.ctx.tunnelled().unwrap()).unwrap();
    assert_eq!(piece, before, "it goes on as it is");
    let usage = upload.ctx.metering.usage.unwrap().usage;
    assert_eq!((usage.input, usage.output), (4, 6));
}

#[tokio::test]
async fn what_was_read_before_the_model_was_known_goes_first() {
    let mut upload = upload_of(Setup { backend: "deployments = { m = \"deployed\" }", ..Setup::default() }).await;
    upload.member().await;
    let mut sent = Vec::new();
    for piece in ["def", "ghi"] {
        let mut piece = Some(Bytes::from_static(piece.as_bytes()));
        body(&upload.gateway, &mut upload.session, &mut piece, false, upload.ctx.tunnelled().unwrap()).await.unwrap();
        sent.push(String::from_utf8(piece.unwrap().to_vec()).unwrap());
    }
    let part = headers::model_part(upload.session.req_header(), "deployed");
    assert_eq!(sent, [format!("{part}{BEGUN}def"), "ghi".to_owned()]);
    assert_eq!(upload.ctx.body.bytes, 6);
}

#[tokio::test]
async fn an_upload_that_is_not_what_it_seemed_is_refused() {
    let second = "\r\n--XX\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nn\r\n--XX--\r\n";
    for (piece, end, seconds, code) in
        [(second, false, 0, "invalid_form"), ("x", true, 0, "invalid_form"), ("x", false, 600, "request_timeout")]
    {
        let mut upload = upload_of(Setup::default()).await;
        upload.member().await;
        upload.gateway.clock.pass(Duration::from_secs(seconds));
        let mut piece = Some(Bytes::from_static(piece.as_bytes()));
        let error = body(&upload.gateway, &mut upload.session, &mut piece, end, upload.ctx.tunnelled().unwrap()).await.unwrap_err();
        assert_eq!(error.esource(), &pingora::ErrorSource::Downstream);
        let told = refusal(&upload.gateway, upload.ctx.tunnelled()).unwrap();
        assert_eq!(told.shape().code, code, "{told}");
    }
}

#[tokio::test]
async fn an_upload_ends_at_its_deadline_however_fast_it_comes() {
    let mut upload =
        upload_of(Setup { server: "min_body_rate = \"1B\"", pool: "timeouts = { total = \"30s\" }", ..Setup::default() }).await;
    upload.member().await;
    for (seconds, passes) in [(20, true), (20, false)] {
        upload.gateway.clock.pass(Duration::from_secs(seconds));
        let mut piece = Some(Bytes::from(vec![b'x'; 100]));
        let sent = body(&upload.gateway, &mut upload.session, &mut piece, false, upload.ctx.tunnelled().unwrap()).await;
        assert_eq!(sent.is_ok(), passes);
    }
    assert_eq!(refusal(&upload.gateway, upload.ctx.tunnelled()), Some(Refusal::BodyTimeout));
}
