package rest

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	ingestv1 "murphey.dev/gateway/gen/murphey/ingest/v1"
)

const downloadPath = "/v1/{name=collections/*/documents/*}:download"

// downloader streams a raw file as it was uploaded. The file is anybody's: browsers are told to save it, never to show it.
type downloader struct {
	mux    *runtime.ServeMux
	ingest ingestv1.IngestServiceClient
}

func (d downloader) serve(w http.ResponseWriter, r *http.Request, path map[string]string) {
	_, marshaler := runtime.MarshalerForRequest(d.mux, r)
	ctx, err := runtime.AnnotateContext(r.Context(), d.mux, r, ingestv1.IngestService_DownloadDocument_FullMethodName,
		runtime.WithHTTPPathPattern(downloadPath))
	if err != nil {
		runtime.HTTPError(r.Context(), d.mux, marshaler, w, r, err)
		return
	}
	stream, err := d.ingest.DownloadDocument(ctx, &ingestv1.DownloadDocumentRequest{Name: path["name"]})
	if err != nil {
		runtime.HTTPError(ctx, d.mux, marshaler, w, r, err)
		return
	}
	first, err := stream.Recv()
	if err != nil {
		runtime.HTTPError(ctx, d.mux, marshaler, w, r, err)
		return
	}
	document := first.GetDocument()
	if document == nil {
		err := status.Error(codes.Internal, "The ingest service sent no document before its bytes.")
		runtime.HTTPError(ctx, d.mux, marshaler, w, r, err)
		return
	}
	describe(w.Header(), document)
	copyFile(w, stream)
}

func describe(header http.Header, document *ingestv1.Document) {
	header.Set("Content-Type", mediaType(document.GetMediaType()))
	header.Set("Content-Length", strconv.FormatInt(document.GetSizeBytes(), 10))
	header.Set("Content-Disposition", disposition(document.GetDisplayName()))
	header.Set("Content-Security-Policy", "sandbox; default-src 'none'")
}

func copyFile(w http.ResponseWriter, stream ingestv1.IngestService_DownloadDocumentClient) {
	connection := http.NewResponseController(w)
	for {
		piece, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return // net/http breaks the connection when bytes are missing
		}
		if err != nil {
			slog.Warn("download_broke_off", "code", status.Code(err).String())
			panic(http.ErrAbortHandler) // the header is gone; a broken connection is the one way left to say so
		}
		if _, err := w.Write(piece.GetData()); err != nil || connection.Flush() != nil {
			panic(http.ErrAbortHandler)
		}
	}
}

func mediaType(text string) string {
	if _, _, err := mime.ParseMediaType(text); err != nil {
		return "application/octet-stream"
	}
	return text
}

// disposition names the file twice, after RFC 6266: in ASCII for old clients, and as RFC 5987 writes any name.
func disposition(displayName string) string {
	name := baseName(displayName)
	if name == "" {
		name = "document"
	}
	ascii := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || strings.ContainsRune(`"\%;`, r) {
			return '_'
		}
		return r
	}, name)
	encoded := strings.ReplaceAll(url.QueryEscape(name), "+", "%20")
	return fmt.Sprintf(`attachment; filename="%s"; filename*=UTF-8''%s`, ascii, encoded)
}
