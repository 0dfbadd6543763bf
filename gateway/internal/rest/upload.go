package rest

import (
	"context"
	"errors"
	"io"
	"mime/multipart"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"

	ingestv1 "murphey.dev/gateway/gen/murphey/ingest/v1"
)

const (
	uploadPath = "/v1/documents"
	// pieceBytes is what one message carries; ingest takes up to 1 MiB.
	pieceBytes = 256 << 10
	// maxFieldBytes bounds a form field, metadata included.
	maxFieldBytes = 64 << 10
)

// uploader takes `multipart/form-data` and streams its `file` part into UploadDocument, piece by piece.
type uploader struct {
	mux    *runtime.ServeMux
	ingest ingestv1.IngestServiceClient
	limits Limits
}

func (u uploader) serve(w http.ResponseWriter, r *http.Request, _ map[string]string) {
	_, marshaler := runtime.MarshalerForRequest(u.mux, r)
	ctx, err := runtime.AnnotateContext(r.Context(), u.mux, r, ingestv1.IngestService_UploadDocument_FullMethodName,
		runtime.WithHTTPPathPattern(uploadPath))
	if err != nil {
		runtime.HTTPError(r.Context(), u.mux, marshaler, w, r, err)
		return
	}
	response, err := u.upload(ctx, w, r)
	stateOf(ctx).drain() // ingest or a check may have ended it early
	if err != nil {
		runtime.HTTPError(ctx, u.mux, marshaler, w, r, err)
		return
	}
	runtime.ForwardResponseMessage(ctx, u.mux, marshaler, w, r, response)
}

func (u uploader) upload(ctx context.Context, w http.ResponseWriter, r *http.Request) (*ingestv1.UploadDocumentResponse, error) {
	if r.ContentLength > u.limits.UploadBytes {
		stateOf(ctx).tooLarge = u.limits.UploadBytes
		return nil, errors.New("the body is announced as too large") // writeError has the words
	}
	r.Body = &patientBody{r.Body, http.NewResponseController(w), u.limits.UploadIdle}
	form, err := r.MultipartReader()
	if err != nil {
		return nil, httpError(http.StatusUnsupportedMediaType, codes.InvalidArgument,
			"Send the document as multipart/form-data with a part named file (%v).", err)
	}
	header, file, err := readFields(form)
	if err != nil {
		return nil, err
	}
	// Ends with this function: an upload that did not get to its end is cancelled, never closed as if it were whole.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := u.ingest.UploadDocument(ctx)
	if err != nil {
		return nil, err
	}
	err = sendFile(stream, header, file)
	if errors.Is(err, io.EOF) { // ingest has answered before the end
		return stream.CloseAndRecv()
	}
	if err != nil {
		return nil, err
	}
	if err := atEnd(form); err != nil {
		return nil, err
	}
	return stream.CloseAndRecv()
}

// readFields reads the form up to its file.
func readFields(form *multipart.Reader) (*ingestv1.UploadHeader, *multipart.Part, error) {
	header, seen := &ingestv1.UploadHeader{}, map[string]bool{}
	for {
		part, err := form.NextPart()
		if err == io.EOF { // bare: a wrapped one is a form without its end
			return nil, nil, invalid("file", "The form has no part named file.")
		}
		if err != nil {
			return nil, nil, broken(err)
		}
		name := part.FormName()
		if name == "file" {
			if header.DisplayName == "" {
				header.DisplayName = baseName(part.FileName())
			}
			return header, part, nil
		}
		if seen[name] {
			return nil, nil, invalid(name, "The form has more than one part named %q.", name)
		}
		seen[name] = true
		if err := readField(header, name, part); err != nil {
			return nil, nil, err
		}
	}
}

func readField(header *ingestv1.UploadHeader, name string, part io.Reader) error {
	value, err := io.ReadAll(io.LimitReader(part, maxFieldBytes+1))
	if err != nil {
		return broken(err)
	}
	if len(value) > maxFieldBytes {
		return invalid(name, "The part %q is over its limit of %d bytes.", name, maxFieldBytes)
	}
	switch text := string(value); name {
	case "collection":
		header.Collection = text
	case "display_name", "name":
		header.DisplayName = text
	case "batch":
		header.Batch = text
	case "sha256":
		header.Sha256 = text
	case "size_bytes":
		header.SizeBytes, err = strconv.ParseInt(text, 10, 64)
		if err != nil {
			return invalid(name, "size_bytes is not a whole number.")
		}
	case "metadata":
		header.Metadata = &structpb.Struct{}
		if err := protojson.Unmarshal(value, header.Metadata); err != nil {
			return invalid(name, "metadata is not a JSON object.")
		}
	default:
		return invalid(name, "The form's part %q is unknown. Known are collection, display_name (or name), metadata, batch, "+
			"sha256 and size_bytes, and then, last, file.", name)
	}
	return nil
}

// baseName is the last part of a file name as any system writes it.
func baseName(name string) string {
	return name[strings.LastIndexAny(name, `/\`)+1:]
}

// sendFile sends the header and the file's bytes. io.EOF means that ingest has ended the call.
func sendFile(stream ingestv1.IngestService_UploadDocumentClient, header *ingestv1.UploadHeader, file io.Reader) error {
	err := stream.Send(&ingestv1.UploadDocumentRequest{Content: &ingestv1.UploadDocumentRequest_Header{Header: header}})
	if err != nil {
		return err
	}
	piece := make([]byte, pieceBytes)
	for {
		length, end := fill(piece, file)
		if end != nil && end != io.EOF {
			return broken(end)
		}
		if length > 0 {
			// gRPC has the bytes encoded when Send returns, so the buffer is free again.
			data := &ingestv1.UploadDocumentRequest_Data{Data: piece[:length]}
			if err := stream.Send(&ingestv1.UploadDocumentRequest{Content: data}); err != nil {
				return err
			}
		}
		if end == io.EOF {
			return nil
		}
	}
}

// fill reads until the buffer is full or the reader ends. Only a bare io.EOF is the end of a part: a body that broke off is
// another error, or a wrapped one.
func fill(buffer []byte, reader io.Reader) (length int, err error) {
	for length < len(buffer) && err == nil {
		var read int
		read, err = reader.Read(buffer[length:])
		length += read
	}
	return length, err
}

// atEnd makes sure that the form is whole and the file was its last part.
func atEnd(form *multipart.Reader) error {
	part, err := form.NextPart()
	switch err {
	case io.EOF: // bare: a wrapped one is a form without its end
		return nil
	case nil:
		return invalid(part.FormName(), "The part %q comes after the file. Put the file last, and send one file a request.", part.FormName())
	default:
		return broken(err)
	}
}

func broken(err error) error {
	return httpError(http.StatusBadRequest, codes.InvalidArgument, "The upload broke off or is not a whole form (%v). Nothing was stored; send it again.", err)
}

// patientBody gives up on a body that stands still: each read has its own deadline, and what comes after its end has none.
type patientBody struct {
	io.ReadCloser
	connection *http.ResponseController
	idle       time.Duration
}

func (b *patientBody) Read(buffer []byte) (int, error) {
	// Connections that know no deadline, as in tests, wait as long as it takes.
	_ = b.connection.SetReadDeadline(time.Now().Add(b.idle))
	read, err := b.ReadCloser.Read(buffer)
	if err == io.EOF {
		_ = b.connection.SetReadDeadline(time.Time{})
	}
	return read, err
}
