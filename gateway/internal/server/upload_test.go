package server_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	ingestv1 "murphey.dev/gateway/gen/murphey/ingest/v1"
	"murphey.dev/gateway/internal/settings"
)

// received is how an upload ended for ingest.
type received struct {
	header *ingestv1.UploadHeader
	bytes  int64
	sha256 string
	err    error // nil: the client closed the stream
}

// receive takes uploads whole and tells the test what came.
func receive(uploads chan<- received) func(ingestv1.IngestService_UploadDocumentServer) error {
	return func(stream ingestv1.IngestService_UploadDocumentServer) error {
		got, hash := received{}, sha256.New()
		for {
			message, err := stream.Recv()
			if err != nil {
				if !errors.Is(err, io.EOF) {
					got.err = err
				}
				got.sha256 = hex.EncodeToString(hash.Sum(nil))
				uploads <- got
				if got.err != nil {
					return got.err
				}
				return stream.SendAndClose(&ingestv1.UploadDocumentResponse{Document: &ingestv1.Document{DisplayName: got.header.GetDisplayName()}})
			}
			if header := message.GetHeader(); header != nil {
				got.header = header
			}
			if len(message.GetData()) > 1<<20 {
				return status.Error(codes.InvalidArgument, "a piece over 1 MiB")
			}
			got.bytes += int64(len(message.GetData()))
			hash.Write(message.GetData())
		}
	}
}

// form builds a multipart body: pairs of name and value, in order; `file:NAME` is a file.
func form(t *testing.T, parts ...string) (body *bytes.Buffer, contentType string) {
	t.Helper()
	body = &bytes.Buffer{}
	writer := multipart.NewWriter(body)
	for i := 0; i < len(parts); i += 2 {
		var part io.Writer
		var err error
		if name, isFile := strings.CutPrefix(parts[i], "file:"); isFile {
			part, err = writer.CreateFormFile("file", name)
		} else {
			part, err = writer.CreateFormField(parts[i])
		}
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(part, parts[i+1])
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	return body, writer.FormDataContentType()
}

func TestAnUploadCarriesItsFieldsAndItsBytes(t *testing.T) {
	mesh, gateway := start(t)
	uploads := make(chan received, 1)
	mesh.ingest.upload = receive(uploads)
	for _, content := range []string{"", "hello", strings.Repeat("0123456789", 100_000)} {
		body, contentType := form(t, "collection", "collections/a", "batch", "b", "metadata", `{"year": 2024, "tags": ["x"]}`,
			"size_bytes", "5", "file:C:\\papers\\naïve.txt", content)
		response := send(t, "POST", gateway.url+"/v1/documents", body, "Content-Type", contentType)
		if answer := text(t, response); response.StatusCode != 200 || !strings.Contains(answer, `"displayName":"naïve.txt"`) {
			t.Fatalf("got %d %s", response.StatusCode, answer)
		}
		got, sum := arrives(t, uploads, "the upload"), sha256.Sum256([]byte(content))
		if got.err != nil || got.bytes != int64(len(content)) || got.sha256 != hex.EncodeToString(sum[:]) {
			t.Errorf("got %+v", got)
		}
		header := got.header
		if header.GetCollection() != "collections/a" || header.GetBatch() != "b" || header.GetSizeBytes() != 5 ||
			header.GetMetadata().GetFields()["year"].GetNumberValue() != 2024 {
			t.Errorf("got %v", header)
		}
	}
	body, contentType := form(t, "name", "papers/other.txt", "file:a.txt", "x")
	send(t, "POST", gateway.url+"/v1/documents", body, "Content-Type", contentType)
	if got := arrives(t, uploads, "the upload"); got.header.GetDisplayName() != "papers/other.txt" {
		t.Errorf("got %v", got.header)
	}
}

func TestABadFormIsRefusedAndNothingIsStored(t *testing.T) {
	mesh, gateway := start(t, func(s *settings.Settings) { s.MaxUploadBytes = 200_000 })
	uploads := make(chan received, 10)
	mesh.ingest.upload = receive(uploads)
	for _, test := range []struct {
		parts  []string
		status int
		says   string
	}{
		{[]string{"batch", "b"}, 400, "no part named file"},
		{[]string{"colection", "a", "file:a", "x"}, 400, `part "colection" is unknown`},
		{[]string{"batch", "a", "batch", "b", "file:a", "x"}, 400, "more than one part"},
		{[]string{"metadata", "{", "file:a", "x"}, 400, "not a JSON object"},
		{[]string{"metadata", strings.Repeat("x", 70_000), "file:a", "x"}, 400, "limit of 65536 bytes"},
		{[]string{"size_bytes", "many", "file:a", "x"}, 400, "size_bytes"},
		{[]string{"file:a", "x", "batch", "b"}, 400, "comes after the file"},
		{[]string{"file:a", "x", "file:b", "y"}, 400, "one file a request"},
		{[]string{"file:a", strings.Repeat("x", 300_000)}, 413, "limit of 200000 bytes"},
	} {
		body, contentType := form(t, test.parts...)
		response := send(t, "POST", gateway.url+"/v1/documents", body, "Content-Type", contentType)
		expectError(t, response, test.status, codes.InvalidArgument, test.says)
	}
	// Of unknown length, so that the limit is met in mid-stream.
	body, contentType := form(t, "file:a", strings.Repeat("x", 300_000))
	response := send(t, "POST", gateway.url+"/v1/documents", io.MultiReader(body), "Content-Type", contentType)
	expectError(t, response, http.StatusRequestEntityTooLarge, codes.InvalidArgument, "limit of 200000 bytes")

	response = send(t, "POST", gateway.url+"/v1/documents", strings.NewReader("{}"), "Content-Type", "application/json")
	expectError(t, response, http.StatusUnsupportedMediaType, codes.InvalidArgument, "multipart/form-data")
	for len(uploads) > 0 {
		if got := <-uploads; got.err == nil {
			t.Errorf("ingest saw a whole upload: %+v", got)
		}
	}
}

// TestABrokenOffUploadIsCancelled: ingest must see a cancellation, because a closed stream would be a whole document.
func TestABrokenOffUploadIsCancelled(t *testing.T) {
	mesh, gateway := start(t)
	uploads := make(chan received, 1)
	mesh.ingest.upload = receive(uploads)
	body, contentType := form(t, "file:a.txt", strings.Repeat("x", 1_000_000))
	whole := body.Bytes()
	const endBoundary = 70
	for name, request := range map[string]string{
		"the connection breaks in the file": fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(whole), whole[:600_000]),
		"the connection breaks in a chunk":  fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s", len(whole), whole[:600_000]),
		"the form has no end":               fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(whole)-endBoundary, whole[:len(whole)-endBoundary]),
	} {
		t.Run(name, func(t *testing.T) {
			connection, err := net.Dial("tcp", gateway.address)
			if err != nil {
				t.Fatal(err)
			}
			_, err = fmt.Fprintf(connection, "POST /v1/documents HTTP/1.1\r\nHost: localhost\r\nContent-Type: %s\r\n%s", contentType, request)
			if err != nil {
				t.Fatal(err)
			}
			_ = connection.Close()
			if got := arrives(t, uploads, "the upload's end"); status.Code(got.err) != codes.Canceled {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestIngestMayAnswerBeforeTheEnd(t *testing.T) {
	mesh, gateway := start(t)
	content := strings.Repeat("x", 8<<20) // more than fits in any buffer on the way
	for _, end := range []error{nil, overloaded(t)} {
		mesh.ingest.upload = func(stream ingestv1.IngestService_UploadDocumentServer) error {
			if _, err := stream.Recv(); err != nil {
				return err
			}
			if end != nil {
				return end
			}
			return stream.SendAndClose(&ingestv1.UploadDocumentResponse{Job: &ingestv1.Job{Name: "jobs/7"}})
		}
		body, contentType := form(t, "sha256", "00", "file:a.txt", content)
		response := send(t, "POST", gateway.url+"/v1/documents", body, "Content-Type", contentType)
		if end != nil {
			expectError(t, response, http.StatusTooManyRequests, codes.ResourceExhausted, "32 requests")
		} else if answer := text(t, response); response.StatusCode != 200 || !strings.Contains(answer, "jobs/7") {
			t.Errorf("got %d %s", response.StatusCode, answer)
		}
	}
}

// TestALargeUploadIsNeverHeldWhole sends 300 MB from a generator to a counter, all in this process, and watches its heap.
func TestALargeUploadIsNeverHeldWhole(t *testing.T) {
	mesh, gateway := start(t)
	uploads := make(chan received, 1)
	mesh.ingest.upload = receive(uploads)
	const size = 300 << 20

	reader, writer := io.Pipe()
	multi := multipart.NewWriter(writer)
	go func() {
		part, _ := multi.CreateFormFile("file", "large.bin")
		piece := make([]byte, 1<<20)
		for range size / len(piece) {
			if _, err := part.Write(piece); err != nil {
				return
			}
		}
		_ = multi.Close()
		_ = writer.Close()
	}()
	peak, done := make(chan uint64), make(chan bool)
	go watchHeap(peak, done)
	response := send(t, "POST", gateway.url+"/v1/documents", reader, "Content-Type", multi.FormDataContentType())
	close(done)
	if got := arrives(t, uploads, "the upload"); response.StatusCode != 200 || got.bytes != size {
		t.Errorf("got %d, %d bytes", response.StatusCode, got.bytes)
	}
	if most := <-peak; most > 100<<20 {
		t.Errorf("the heap reached %d MiB", most>>20)
	} else {
		t.Logf("the heap reached %d MiB", most>>20)
	}
}

func watchHeap(peak chan<- uint64, done <-chan bool) {
	var most uint64
	for ticker := time.NewTicker(20 * time.Millisecond); ; {
		select {
		case <-ticker.C:
			var memory runtime.MemStats
			runtime.ReadMemStats(&memory)
			most = max(most, memory.HeapInuse)
		case <-done:
			ticker.Stop()
			peak <- most
			return
		}
	}
}
