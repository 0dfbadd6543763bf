package server_test

import (
	"io"
	"mime"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	ingestv1 "murphey.dev/gateway/gen/murphey/ingest/v1"
)

type downloadStream = ingestv1.IngestService_DownloadDocumentServer

func sendDocument(t *testing.T, stream downloadStream, document *ingestv1.Document, pieces ...string) {
	t.Helper()
	message := &ingestv1.DownloadDocumentResponse{Content: &ingestv1.DownloadDocumentResponse_Document{Document: document}}
	if err := stream.Send(message); err != nil {
		t.Error(err)
	}
	for _, piece := range pieces {
		message := &ingestv1.DownloadDocumentResponse{Content: &ingestv1.DownloadDocumentResponse_Data{Data: []byte(piece)}}
		if err := stream.Send(message); err != nil {
			t.Error(err)
		}
	}
}

func TestADownloadIsTheFileAsItWas(t *testing.T) {
	mesh, gateway := start(t)
	for _, test := range []struct{ displayName, mediaType, wantName, wantType string }{
		{"papers/naïve \"plan\"; v2.html", "text/html", "naïve \"plan\"; v2.html", "text/html"},
		{"a.pdf", "application/pdf", "a.pdf", "application/pdf"},
		{"50%\r\nX: y", "no type\r\n", "50%\r\nX: y", "application/octet-stream"},
	} {
		mesh.ingest.download = func(r *ingestv1.DownloadDocumentRequest, stream downloadStream) error {
			document := &ingestv1.Document{Name: r.GetName(), DisplayName: test.displayName, MediaType: test.mediaType, SizeBytes: 7}
			sendDocument(t, stream, document, "\x00\n", "", "12345")
			return nil
		}
		response := send(t, "GET", gateway.url+"/v1/collections/a/documents/d:download", nil)
		if body := text(t, response); response.StatusCode != 200 || body != "\x00\n12345" || response.ContentLength != 7 {
			t.Errorf("got %d %q, length %d", response.StatusCode, body, response.ContentLength)
		}
		header := response.Header
		kind, parameters, err := mime.ParseMediaType(header.Get("Content-Disposition"))
		if err != nil || kind != "attachment" || parameters["filename"] != test.wantName {
			t.Errorf("disposition %q: %v", header.Get("Content-Disposition"), err)
		}
		if header.Get("Content-Type") != test.wantType || header.Get("X-Content-Type-Options") != "nosniff" || header.Get("X") != "" ||
			!strings.HasPrefix(header.Get("Content-Security-Policy"), "sandbox") {
			t.Errorf("got %v", header)
		}
	}
}

func TestADownloadThatFailsFirstHasTheTrueStatusAndLaterBreaks(t *testing.T) {
	mesh, gateway := start(t)
	mesh.ingest.download = func(r *ingestv1.DownloadDocumentRequest, _ downloadStream) error {
		return status.Error(codes.NotFound, r.GetName()+" does not exist.")
	}
	response := send(t, "GET", gateway.url+"/v1/collections/a/documents/d:download", nil)
	expectError(t, response, http.StatusNotFound, codes.NotFound, "collections/a/documents/d does not exist.")

	for _, end := range []error{nil, status.Error(codes.DataLoss, "half is missing")} {
		mesh.ingest.download = func(_ *ingestv1.DownloadDocumentRequest, stream downloadStream) error {
			sendDocument(t, stream, &ingestv1.Document{SizeBytes: 100_000}, strings.Repeat("x", 60_000))
			return end
		}
		response := send(t, "GET", gateway.url+"/v1/collections/a/documents/d:download", nil)
		if body, err := io.ReadAll(response.Body); err == nil {
			t.Errorf("%d of 100,000 bytes looked whole", len(body))
		}
	}
}

func TestADownloadEndsWhenTheClientGoes(t *testing.T) {
	mesh, gateway := start(t)
	ended := make(chan bool, 1)
	mesh.ingest.download = func(_ *ingestv1.DownloadDocumentRequest, stream downloadStream) error {
		sendDocument(t, stream, &ingestv1.Document{SizeBytes: 100}, "x")
		<-stream.Context().Done()
		ended <- true
		return nil
	}
	response := send(t, "GET", gateway.url+"/v1/collections/a/documents/d:download", nil)
	_ = response.Body.Close()
	arrives(t, ended, "the cancellation")
}
